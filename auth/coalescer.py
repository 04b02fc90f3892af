"""Batching of concurrent calls: items that arrive while a batch is processed form the next batch."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Coalescer(Generic[Item, Result]):
    """Collects items of concurrent callers into batches. Every batch starts after all its items arrived.

    Args:
        work: Processes a batch and returns one result per item, in order. All callers of a batch get its
            exceptions.
        most: Maximum number of items in a batch.
        drop_cancelled: Whether items of cancelled callers are skipped, unless their batch has started.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        most: int = 256,
        drop_cancelled: bool = False,
    ) -> None:
        self._work = work
        self._most = most
        self._drop_cancelled = drop_cancelled
        self._queue: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._working: asyncio.Task[None] | None = None

    async def do(self, item: Item) -> Result:
        """Process an item in a batch. Returns its result."""
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.append((item, done))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._drain())
        return await done

    async def aclose(self) -> None:
        """Wait until all items are processed."""
        if self._working is not None:
            await self._working

    async def _drain(self) -> None:
        while self._queue:
            await asyncio.sleep(0)  # calls of this event loop iteration join the first batch
            batch = self._next()
            if not batch:
                continue
            try:
                results = await self._work([item for item, _ in batch])
            except Exception as error:  # noqa: BLE001 (passed to the callers)
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)
            else:
                for (_, done), result in zip(batch, results, strict=True):
                    if not done.done():
                        done.set_result(result)

    def _next(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        while self._queue and len(batch) < self._most:
            item, done = self._queue.popleft()
            if not (self._drop_cancelled and done.cancelled()):
                batch.append((item, done))
        return batch
