"""Calls in worker threads that always end before their caller continues, even after a cancellation."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


async def wait_uncancelled(*futures: asyncio.Future[Any]) -> None:
    """Wait until the threads behind `futures` are done, even if the caller is cancelled.

    A thread cannot be cancelled. If the caller continued, it could close a file that the thread uses.

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
            future.exception()  # mark the exception as retrieved
    if cancelled is not None:
        raise cancelled


class SerialExecutor:
    """Runs one owner's tasks one after the other on a shared executor.

    The next task is queued without a turn of the event loop, behind the other work of the executor, so that
    a busy owner does not occupy a thread permanently.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._waiting: deque[tuple[asyncio.Future[None], Callable[[], None]]] = deque()
        self._lock = threading.Lock()
        self._busy = False

    def start(
        self, work: Callable[[], None], after: asyncio.Future[None] | None = None
    ) -> asyncio.Future[None]:
        """Queue `work`. The caller must await the future with `wait_uncancelled`, and bound their number.

        Args:
            after: Work that must be done before. If it fails, `work` is not done, and fails with its error.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if after is None:
            self._queue(done, work)
        else:
            after.add_done_callback(lambda before: self._continue(before, done, work))
        return done

    def _continue(
        self, before: asyncio.Future[None], done: asyncio.Future[None], work: Callable[[], None]
    ) -> None:
        if before.cancelled():
            done.cancel()
        elif (error := before.exception()) is not None:
            done.set_exception(error)
        else:
            self._queue(done, work)

    def _queue(self, done: asyncio.Future[None], work: Callable[[], None]) -> None:
        with self._lock:
            self._waiting.append((done, work))
            idle, self._busy = not self._busy, True
        if idle:
            self._executor.submit(self._step)

    def _step(self) -> None:
        done, work = self._waiting.popleft()
        error: BaseException | None = None
        try:
            work()
        except BaseException as raised:  # noqa: BLE001 (the future passes it to the owner)
            error = raised
        done.get_loop().call_soon_threadsafe(_resolve, done, error)
        with self._lock:
            more = self._busy = bool(self._waiting)
        if more:
            self._executor.submit(self._step)


def _resolve(done: asyncio.Future[None], error: BaseException | None) -> None:
    if done.done():  # cancelled
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


class Threads:
    """Runs blocking work on an executor, which the owner shuts down."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def start(self, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """Start `work`. The caller must await the future with `wait_uncancelled`."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._executor, lambda: work(*args, **kwargs))

    def serial_executor(self) -> SerialExecutor:
        """Return a serial executor for one owner."""
        return SerialExecutor(self._executor)

    async def run(self, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `work` and return its result. If cancelled, wait until `work` has ended."""
        future = self.start(work, *args, **kwargs)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await wait_uncancelled(future)
            raise

    async def acquire(self, work: Callable[[], R], release: Callable[[R], object]) -> R:
        """Run `work`, which opens a resource. `release` the resource if the caller is cancelled."""
        future = self.start(work)
        try:
            await wait_uncancelled(future)
        except asyncio.CancelledError:
            if not future.cancelled() and future.exception() is None:
                release(future.result())
            raise
        return future.result()
