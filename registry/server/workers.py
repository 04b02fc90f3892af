"""Worker processes behind one port, supervised and replaced by their parent (docs/adr/0031).

The parent opens one SO_REUSEPORT socket per slot. The worker in a slot inherits the socket. The kernel
spreads connections evenly over the sockets, and a connection that waits in a socket's queue is accepted by
the next worker in the slot if the current one ends.

As a program, this module runs one worker.
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
from registry.server.prctl import forbid_core_dumps
from registry.server.process import Listeners, answer, bind

SETTINGS: Final = "CRISPER_WORKER_SETTINGS_DESCRIPTOR"
_PROXY = "CRISPER_WORKER_UNIX_SOCKET"
_ADMIN = "CRISPER_WORKER_ADMIN_SOCKET"
DESCRIPTORS: Final = "CRISPER_WORKER_DESCRIPTORS"
_READY = b"ready"
_START_S = 60.0
_LOOK_S = 0.2
_RESTART_S = 1.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Worker:
    """Worker process, and the pipe on which it reports that it is ready."""

    process: subprocess.Popen[bytes]
    ready_read: int

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def dead(self) -> bool:
        return self.process.poll() is not None

    def is_ready(self) -> bool:
        with suppress(BlockingIOError):  # no report yet
            return os.read(self.ready_read, len(_READY)) == _READY
        return False


class Workers:
    """Supervisor of the workers, in the parent. SIGHUP replaces them one by one, without losing a request.

    Args:
        lock: Lock of the data folder, which all workers inherit.
        metrics: Folder for the metrics of all workers.
        listeners: The main one is the socket of the first slot, bound to `settings.port`, not listening. All
            workers serve the others.
    """

    def __init__(
        self,
        settings: Settings,
        redis_url: str,
        lock: int,
        metrics: Path,
        listeners: Listeners,
    ) -> None:
        self._settings = settings
        self._keep = [lock]
        self._metrics = metrics
        self._given = settings.model_copy(update={"redis_url": redis_url}).model_dump_json().encode()
        # The settings contain passwords, and an environment is visible in /proc: a pipe passes them instead.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CRISPER_")}
        self._environment = kept | {"PROMETHEUS_MULTIPROC_DIR": str(metrics)}
        for name, shared in ((_PROXY, listeners.proxy), (_ADMIN, listeners.admin)):
            if shared is not None:
                self._keep.append(shared.fileno())
                self._environment[name] = str(shared.fileno())
        others = (bind(settings, shared=True) for _ in range(settings.workers - 1))
        self._slots = [listeners.main, *others]
        self._running: list[_Worker] = []
        self._retired: list[_Worker] = []
        self._renew = asyncio.Event()

    async def run(self, stopping: asyncio.Event, ready: Callable[[], Awaitable[None]]) -> None:
        """Start the workers, restart those that die, and stop all at the end.

        Raises:
            ConfigError: A worker ended, or did not report in time, before it was ready.
        """
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._renew.set)
        try:
            self._running = [self._spawn(slot) for slot in self._slots]
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
        self._retired = [worker for worker in self._retired if not self._reap(worker)]
        for slot, worker in enumerate(self._running):
            if self._reap(worker):
                _log.error("worker.died", pid=worker.pid, code=worker.process.returncode)
                await asyncio.sleep(_RESTART_S)
                self._running[slot] = self._spawn(self._slots[slot])
        if self._renew.is_set():
            self._renew.clear()
            await self._replace_all(stopping)

    async def _replace_all(self, stopping: asyncio.Event) -> None:
        """Replace each worker. The new one is ready before the old one is stopped."""
        for slot, old in enumerate(self._running):
            new = self._spawn(self._slots[slot])
            try:
                await self._until_ready(new, stopping)
            except ConfigError as error:
                _log.error("worker.not_replaced", pid=old.pid, why=str(error))
                self._end(new)
                return
            self._running[slot] = new
            self._retired.append(old)
            old.process.send_signal(signal.SIGUSR1)
            _log.info("worker.replaced", pid=old.pid, by=new.pid)

    def _spawn(self, slot: socket.socket) -> _Worker:
        ready_read, ready_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        given = _filled_pipe(self._given)
        try:
            process = spawn(
                [sys.executable, "-m", "registry.server.workers"],
                keep=(*self._keep, slot.fileno(), ready_write, given),
                environment=self._environment
                | {DESCRIPTORS: f"{slot.fileno()},{ready_write}", SETTINGS: str(given)},
                death_signal=signal.SIGTERM,
            )
        finally:
            os.close(given)
            os.close(ready_write)
        return _Worker(process, ready_read)

    async def _until_ready(self, worker: _Worker, stopping: asyncio.Event) -> None:
        deadline = asyncio.get_running_loop().time() + _START_S
        while not worker.is_ready() and not stopping.is_set():
            if worker.dead:
                code = worker.process.returncode
                raise ConfigError(
                    f"a worker ended with status {code} before it was ready: check its messages above"
                )
            if asyncio.get_running_loop().time() > deadline:
                raise ConfigError(f"a worker was not ready within {_START_S:.0f} s: check its messages above")
            await asyncio.sleep(_LOOK_S / 10)

    def _reap(self, worker: _Worker) -> bool:
        """Return whether a worker has ended. If so, remove its metrics."""
        if not worker.dead:
            return False
        os.close(worker.ready_read)
        multiprocess.mark_process_dead(worker.pid, str(self._metrics))  # type: ignore[no-untyped-call]
        return True

    def _end(self, worker: _Worker) -> None:
        worker.process.kill()
        worker.process.wait()
        self._reap(worker)

    async def _stop(self) -> None:
        everyone = [*self._running, *self._retired]
        for slot in self._slots:
            slot.close()
        for worker in everyone:
            worker.process.terminate()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.drain_s + 10
        for worker in everyone:
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(worker.process.wait, max(0.0, deadline - loop.time()))
            self._end(worker)


def _filled_pipe(content: bytes) -> int:
    """Return the reading end of a pipe with some content. Raises ConfigError: it does not fit."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if os.write(write, content) < len(content):
            os.close(read)
            raise ConfigError("the settings are too long for worker processes: set CRISPER_WORKERS=1")
    finally:
        os.close(write)
    return read


async def _work(
    settings: Settings,
    redis_url: str,
    listeners: Listeners,
    ready_write: int,
) -> None:
    stopping, retiring = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGUSR1, retiring.set)

    async def ready() -> None:
        os.write(ready_write, _READY)
        os.close(ready_write)

    data = DataDir(settings.data_dir)
    with listeners.main:
        await answer(
            settings,
            data,
            redis_url,
            listeners,
            stopping=stopping,
            retiring=retiring,
            ready=ready,
        )


def main() -> None:
    """Run one worker with the environment from its parent."""
    forbid_core_dumps()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # handled by the parent
    with os.fdopen(int(os.environ.pop(SETTINGS)), "rb") as given:
        settings = Settings.model_validate_json(given.read())
    slot, ready_write = map(int, os.environ.pop(DESCRIPTORS).split(","))
    configure_logging(settings.log_level)
    os.umask(0o077)
    if settings.redis_url is None:
        raise SystemExit("a worker needs the ledger's URL from its parent: run `crisper serve` instead")
    listeners = Listeners(socket.socket(fileno=slot), _inherited(_PROXY), _inherited(_ADMIN))
    uvloop.run(_work(settings, settings.redis_url, listeners, ready_write))


def _inherited(name: str) -> socket.socket | None:
    """Return a socket that all workers share, if the parent has one."""
    descriptor = os.environ.pop(name, None)
    return socket.socket(fileno=int(descriptor)) if descriptor else None


if __name__ == "__main__":
    main()
