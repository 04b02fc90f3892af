"""One hop to a worker thread that cancellation never leaves running behind."""

import asyncio
import threading
from collections import deque
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


class SerialExecutor:
    """Runs one owner's work piece by piece in the order in which it came.

    The next piece follows without a turn of the event loop, but behind whatever else the executor has to
    do meanwhile, so that a busy owner does not keep a thread to itself.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._waiting: deque[tuple[asyncio.Future[None], Callable[[], None]]] = deque()
        self._lock = threading.Lock()
        self._busy = False

    def start(self, work: Callable[[], None]) -> asyncio.Future[None]:
        """Queue `work`; the caller owns the future, has to `settle` it, and bounds how many there are."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._waiting.append((done, work))
            idle, self._busy = not self._busy, True
        if idle:
            self._executor.submit(self._step)
        return done

    def _step(self) -> None:
        done, work = self._waiting.popleft()
        error: BaseException | None = None
        try:
            work()
        except BaseException as raised:  # noqa: BLE001 - it is the owner's, who gets it from the future
            error = raised
        done.get_loop().call_soon_threadsafe(_tell, done, error)
        with self._lock:
            more = self._busy = bool(self._waiting)
        if more:
            self._executor.submit(self._step)


def _tell(done: asyncio.Future[None], error: BaseException | None) -> None:
    if done.done():  # cancelled
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


class Threads:
    """Runs blocking work on an executor that its owner shuts down."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def start(self, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """Start `work`; the caller owns the future and has to `settle` it."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._executor, lambda: work(*args, **kwargs))

    def serial_executor(self) -> SerialExecutor:
        """Return a lane of its own for one owner."""
        return SerialExecutor(self._executor)

    async def run(self, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `work` and return its result; when cancelled, only after `work` has ended."""
        future = self.start(work, *args, **kwargs)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await settle(future)
            raise

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
