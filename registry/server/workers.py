"""Several processes behind one port, watched and replaced by their parent (docs/adr/0031).

The parent opens one SO_REUSEPORT socket a place, and the worker that holds the place inherits it. So the
kernel spreads connections evenly, and a connection that waits to be accepted outlives the worker that did
not come to it: the next one at the place takes it.

Run as a module, this is one of the workers.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
import uvloop
from prometheus_client import multiprocess

from registry.config import Settings
from registry.datadir import DataDir
from registry.errors import ConfigError
from registry.observe import configure_logging
from registry.server.children import spawn
from registry.server.process import answer, bind

SETTINGS: Final = "CRISPER_WORKER_SETTINGS"
_FOR_PROXY = "CRISPER_WORKER_UNIX_SOCKET"
DESCRIPTORS: Final = "CRISPER_WORKER_DESCRIPTORS"
_READY = b"ready"
_START_S = 60.0
_LOOK_S = 0.2
_RESTART_S = 1.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Worker:
    """A process, and the pipe on which it says that it answers."""

    process: subprocess.Popen[bytes]
    said: int

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def dead(self) -> bool:
        return self.process.poll() is not None

    def is_ready(self) -> bool:
        with suppress(BlockingIOError):  # nothing said yet
            return os.read(self.said, len(_READY)) == _READY
        return False


class Workers:
    """The parent's side. SIGHUP replaces the workers one by one, without losing a request.

    Args:
        lock: The data folder's lock, which every worker inherits.
        metrics: Where workers leave their counters for whichever of them is asked.
        listener: The first place's socket, bound to `settings.port`, not listening.
        for_proxy: The unix socket that all of them answer at, if any.
    """

    def __init__(
        self,
        settings: Settings,
        redis_url: str,
        lock: int,
        metrics: Path,
        listener: socket.socket,
        *,
        for_proxy: socket.socket | None = None,
    ) -> None:
        self._settings = settings
        self._keep = [lock]
        self._metrics = metrics
        given = settings.model_copy(update={"redis_url": redis_url})
        self._environment = os.environ | {
            SETTINGS: given.model_dump_json(),
            "PROMETHEUS_MULTIPROC_DIR": str(metrics),
        }
        if for_proxy is not None:
            self._keep.append(for_proxy.fileno())
            self._environment[_FOR_PROXY] = str(for_proxy.fileno())
        others = (bind(settings, shared=True) for _ in range(settings.workers - 1))
        self._places = [listener, *others]
        self._running: list[_Worker] = []
        self._retired: list[_Worker] = []
        self._renew = asyncio.Event()

    async def run(self, stopping: asyncio.Event, ready: Callable[[], Awaitable[None]]) -> None:
        """Start the workers, start each again that dies, and stop all at the end.

        Raises:
            ConfigError: A worker ended, or said nothing, before it answered.
        """
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._renew.set)
        try:
            self._running = [self._spawn(place) for place in self._places]
            for worker in self._running:
                await self._until_ready(worker, stopping)
            if not stopping.is_set():
                await ready()
            while not stopping.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), _LOOK_S)
                await self._look_after(stopping)
        finally:
            await self._stop()

    async def _look_after(self, stopping: asyncio.Event) -> None:
        self._retired = [worker for worker in self._retired if not self._bury(worker)]
        for place, worker in enumerate(self._running):
            if self._bury(worker):
                _log.error("worker.died", pid=worker.pid, code=worker.process.returncode)
                await asyncio.sleep(_RESTART_S)
                self._running[place] = self._spawn(self._places[place])
        if self._renew.is_set():
            self._renew.clear()
            await self._replace_all(stopping)

    async def _replace_all(self, stopping: asyncio.Event) -> None:
        """Replace each worker: the new one answers before the old one is told to go."""
        for place, old in enumerate(self._running):
            new = self._spawn(self._places[place])
            try:
                await self._until_ready(new, stopping)
            except ConfigError as error:
                _log.error("worker.not_replaced", pid=old.pid, why=str(error))
                self._end(new)
                return
            self._running[place] = new
            self._retired.append(old)
            old.process.send_signal(signal.SIGUSR1)
            _log.info("worker.replaced", pid=old.pid, by=new.pid)

    def _spawn(self, place: socket.socket) -> _Worker:
        said, say = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            process = spawn(
                [sys.executable, "-m", "registry.server.workers"],
                keep=(*self._keep, place.fileno(), say),
                environment=self._environment | {DESCRIPTORS: f"{place.fileno()},{say}"},
                death_signal=signal.SIGTERM,
            )
        finally:
            os.close(say)
        return _Worker(process, said)

    async def _until_ready(self, worker: _Worker, stopping: asyncio.Event) -> None:
        deadline = asyncio.get_running_loop().time() + _START_S
        while not worker.is_ready() and not stopping.is_set():
            if worker.dead:
                code = worker.process.returncode
                raise ConfigError(f"a worker ended with status {code} before it answered; see what it said")
            if asyncio.get_running_loop().time() > deadline:
                raise ConfigError(f"a worker did not answer within {_START_S:.0f} s")
            await asyncio.sleep(_LOOK_S / 10)

    def _bury(self, worker: _Worker) -> bool:
        """Tell whether a worker is dead; if so, drop what it left."""
        if not worker.dead:
            return False
        os.close(worker.said)
        multiprocess.mark_process_dead(worker.pid, str(self._metrics))  # type: ignore[no-untyped-call]
        return True

    def _end(self, worker: _Worker) -> None:
        worker.process.kill()
        worker.process.wait()
        self._bury(worker)

    async def _stop(self) -> None:
        everyone = [*self._running, *self._retired]
        for place in self._places:
            place.close()
        for worker in everyone:
            worker.process.terminate()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.drain_s + 10
        for worker in everyone:
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(worker.process.wait, max(0.0, deadline - loop.time()))
            self._end(worker)


async def _work(
    settings: Settings,
    redis_url: str,
    listener: socket.socket,
    for_proxy: socket.socket | None,
    say: int,
) -> None:
    stopping, retiring = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGUSR1, retiring.set)

    async def ready() -> None:
        os.write(say, _READY)
        os.close(say)

    data = DataDir(settings.data_dir)
    with listener:
        await answer(
            settings,
            data,
            redis_url,
            listener,
            for_proxy=for_proxy,
            stopping=stopping,
            retiring=retiring,
            ready=ready,
        )


def main() -> None:
    """Run one worker, as its parent says in the environment."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the parent's affair
    settings = Settings.model_validate_json(os.environ.pop(SETTINGS))
    place, say = map(int, os.environ.pop(DESCRIPTORS).split(","))
    configure_logging(settings.log_level)
    os.umask(0o077)
    if settings.redis_url is None:
        raise SystemExit("a worker is told where the ledger is")
    descriptor = os.environ.pop(_FOR_PROXY, None)
    for_proxy = socket.socket(fileno=int(descriptor)) if descriptor else None
    listener = socket.socket(fileno=place)
    uvloop.run(_work(settings, settings.redis_url, listener, for_proxy, say))


if __name__ == "__main__":
    main()
