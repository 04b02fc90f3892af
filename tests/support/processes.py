"""Real programs run for a test: started with a log file, waited for, ended by their own pid."""

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

LOG_TAIL_CHARS = 6_000
# Below the ports that the kernel gives to outgoing connections, any of which could take a free port first.
TEST_PORTS = range(12_000, 30_000)
_leases: list[socket.socket] = []


@dataclass(frozen=True)
class Result:
    """What a finished command answered; `output` is its standard output and error, in order."""

    argv: tuple[str, ...]
    returncode: int
    output: str

    @property
    def ok(self) -> bool:
        return self.returncode == 0

    def check(self) -> Self:
        """Raise an AssertionError that shows the command's own words, unless it succeeded."""
        if not self.ok:
            raise AssertionError(f"{' '.join(self.argv[:3])} ... exited {self.returncode}:\n{self.output}")
        return self


def run(
    argv: Sequence[str],
    *,
    timeout_s: float = 60,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> Result:
    """Run a command to its end; `env` adds to the environment. A timeout ends it and counts as 124."""
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        said = (error.stdout or b"").decode(errors="replace")
        return Result(tuple(argv), 124, f"{said}\n(ended after {timeout_s} s)")
    return Result(tuple(argv), done.returncode, done.stdout.decode(errors="replace"))


def free_port() -> int:
    """Return a free TCP port of 127.0.0.1; no other test gets it while this process lives."""
    for port in random.sample(TEST_PORTS, k=len(TEST_PORTS)):
        lease = socket.socket(socket.AF_UNIX)
        try:
            lease.bind(f"\0crisper-test-port-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            lease.close()
        else:
            _leases.append(lease)
            return port
    raise RuntimeError("no TCP port is free for a test")


def listening(port: int, address: str = "127.0.0.1") -> bool:
    """Tell whether somebody accepts connections at a port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def wait_until(
    condition: Callable[[], bool], *, timeout_s: float, what: str, interval_s: float = 0.05
) -> None:
    """Poll until `condition` holds; raise TimeoutError naming `what` otherwise."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s} s: {what}")
        time.sleep(interval_s)


class Process:
    """A server started for a test. It dies with the test run, even when that is killed.

    Args:
        argv: Program and arguments.
        log: Where standard output and error are appended, so that restarts keep the history.
        env: Added to the environment.
        ready: Polled until it is true; the process may not exit before that.
    """

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        *,
        ready: Callable[[], bool],
        env: Mapping[str, str] | None = None,
        timeout_s: float = 30,
    ) -> None:
        self.log = log
        self.name = Path(argv[0]).name
        with log.open("ab") as sink:
            self._popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *argv],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
            )
        try:
            wait_until(lambda: self._ready(ready), timeout_s=timeout_s, what=f"{self.name} is ready")
        except BaseException as error:
            self.kill9()
            error.add_note(f"--- {log}\n{tail(log)}")
            raise

    def _ready(self, ready: Callable[[], bool]) -> bool:
        if self._popen.poll() is not None:
            raise RuntimeError(f"{self.name} exited {self._popen.returncode} before it was ready")
        return ready()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def stop(self, timeout_s: float = 20) -> int:
        """Ask it to end, wait, and return its exit status; kill it only when it does not."""
        with suppress(ProcessLookupError):
            self._popen.terminate()
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return self.kill9()

    def kill9(self) -> int:
        """End it at once, as a power cut would."""
        with suppress(ProcessLookupError):
            self._popen.send_signal(signal.SIGKILL)
        return self._popen.wait(20)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def tail(log: Path, chars: int = LOG_TAIL_CHARS) -> str:
    """Return the last `chars` characters of a log file."""
    return log.read_text(errors="replace")[-chars:] if log.exists() else "(no such file)"
