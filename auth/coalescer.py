"""Many callers, one statement: what arrives while one batch is at the database goes with the next."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Coalescer(Generic[Item, Result]):
    """Gathers items into batches; nobody waits for others, and every answer comes from after the question.

    Args:
        work: Does a whole batch, and returns a result per item, in order; what it raises, every caller of
            that batch gets.
        most: Items in one batch.
        drop_cancelled: Whether what nobody waits for any more is left undone, unless it is under way.
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
        """Have an item done, and return its result."""
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.append((item, done))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._drain())
        return await done

    async def aclose(self) -> None:
        """Wait until everything is done."""
        if self._working is not None:
            await self._working

    async def _drain(self) -> None:
        while self._queue:
            await asyncio.sleep(0)  # all calls of this turn of the event loop go into the first batch
            batch = self._next()
            if not batch:
                continue
            try:
                results = await self._work([item for item, _ in batch])
            except Exception as error:  # noqa: BLE001 (it is the callers' to handle)
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
