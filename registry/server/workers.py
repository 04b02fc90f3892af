"""Several processes behind one port (SO_REUSEPORT), watched by their parent.

Run as a module, this is one of them.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog
import uvloop

from registry.config import Settings
from registry.datadir import DataDir
from registry.observe import configure_logging
from registry.server.children import spawn
from registry.server.process import answer, bind

SETTINGS: Final = "CRISPER_WORKER_SETTINGS"
_FOR_PROXY = "CRISPER_WORKER_UNIX_SOCKET"
_LOOK_S = 0.2
_RESTART_S = 1.0
_log = structlog.get_logger(__name__)


class Workers:
    """The parent's side.

    Args:
        lock: The data folder's lock, which every worker inherits.
        metrics: Where workers leave their counters for whichever of them is asked.
        for_proxy: The unix socket that all of them answer at, if any.
    """

    def __init__(
        self,
        settings: Settings,
        redis_url: str,
        lock: int,
        metrics: Path,
        for_proxy: socket.socket | None = None,
    ) -> None:
        self._settings = settings
        self._keep = [lock]
        given = settings.model_copy(update={"redis_url": redis_url})
        self._environment = os.environ | {
            SETTINGS: given.model_dump_json(),
            "PROMETHEUS_MULTIPROC_DIR": str(metrics),
        }
        if for_proxy is not None:
            self._keep.append(for_proxy.fileno())
            self._environment[_FOR_PROXY] = str(for_proxy.fileno())
        self._running: list[subprocess.Popen[bytes]] = []

    async def run(self, stopping: asyncio.Event, ready: Callable[[], Awaitable[None]]) -> None:
        """Start the workers, start each again that dies, and stop all at the end."""
        self._running = [self._spawn() for _ in range(self._settings.workers)]
        if self._settings.tls_cert is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
        try:
            await self._until_listening()
            await ready()
            while not stopping.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), _LOOK_S)
                await self._replace_dead()
        finally:
            await self._stop()

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "registry.server.workers"]
        return spawn(command, keep=self._keep, environment=self._environment, death_signal=signal.SIGTERM)

    async def _until_listening(self) -> None:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._settings.host, self._settings.host)
        while all(worker.poll() is None for worker in self._running):
            try:
                _, writer = await asyncio.open_connection(host, self._settings.port)
            except OSError:
                await asyncio.sleep(_LOOK_S / 4)
            else:
                writer.close()
                return

    async def _replace_dead(self) -> None:
        for place, worker in enumerate(self._running):
            if worker.poll() is not None:
                _log.error("worker.died", pid=worker.pid, code=worker.returncode)
                await asyncio.sleep(_RESTART_S)
                self._running[place] = self._spawn()

    def _reload(self) -> None:
        for worker in self._running:
            worker.send_signal(signal.SIGHUP)

    async def _stop(self) -> None:
        for worker in self._running:
            worker.terminate()
        patience_s = self._settings.drain_s + 10
        for worker in self._running:
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(worker.wait, patience_s)
            worker.kill()
            worker.wait()


async def _work(settings: Settings, redis_url: str, for_proxy: socket.socket | None) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    with bind(settings, shared=True) as listener:
        data = DataDir(settings.data_dir)
        await answer(settings, data, redis_url, listener, for_proxy=for_proxy, stopping=stopping)


def main() -> None:
    """Run one worker, as its parent says in the environment."""
    settings = Settings.model_validate_json(os.environ.pop(SETTINGS))
    configure_logging(settings.log_level)
    os.umask(0o077)
    if settings.redis_url is None:
        raise SystemExit("a worker is told where the ledger is")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is a certificate to reload
    descriptor = os.environ.pop(_FOR_PROXY, None)
    for_proxy = socket.socket(fileno=int(descriptor)) if descriptor else None
    uvloop.run(_work(settings, settings.redis_url, for_proxy))


if __name__ == "__main__":
    main()
