"""One hop to a worker thread that cancellation never leaves running behind."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


async def settle(*futures: asyncio.Future[Any]) -> None:
    """Wait until the threads behind `futures` are done, however often the caller is cancelled.

    A thread cannot be cancelled; going on before it is done would close a file under its feet.

    Raises:
        asyncio.CancelledError: The caller was cancelled meanwhile.
    """
    cancelled: asyncio.CancelledError | None = None
    while pending := [future for future in futures if not future.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            cancelled = error
    for future in futures:
        if not future.cancelled():
            future.exception()  # marks it as seen
    if cancelled is not None:
        raise cancelled


class Threads:
    """Runs blocking work on an executor that its owner shuts down."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def start(self, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """Start `work`; the caller owns the future and has to `settle` it."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._executor, lambda: work(*args, **kwargs))

    async def run(self, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `work` and return its result; when cancelled, only after `work` has ended."""
        future = self.start(work, *args, **kwargs)
        await settle(future)
        return future.result()

    async def acquire(self, work: Callable[[], R], release: Callable[[R], object]) -> R:
        """Run `work`, which opens something; `release` it when the caller is cancelled meanwhile."""
        future = self.start(work)
        try:
            await settle(future)
        except asyncio.CancelledError:
            if not future.cancelled() and future.exception() is None:
                release(future.result())
            raise
        return future.result()
