"""Layers of strangers are decompressed in a process without rights, with the same results."""

import gzip
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import psutil
import pytest
import zstandard

from registry.imports.recompress.decode import DecodeError, Fault, Packing, decode
from registry.imports.recompress.sandboxed import decode_sandboxed

MIB = 1 << 20
NOISE = Random(3).randbytes(3 * MIB)
CONFINED = (
    "import ctypes, os, socket, sys; libc = ctypes.CDLL(None);"
    "from registry.imports.recompress.sandbox import confine; confine(); "
)


def squeezed(data: bytes, **settings: int) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, **settings)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


VALID = {
    "gzip": gzip.compress(NOISE + bytes(20 * MIB)),
    "gzip of nothing": gzip.compress(b""),
    "members": b"".join(gzip.compress(NOISE[at : at + 999]) for at in range(0, 99_900, 999)),
    "padding": gzip.compress(NOISE) + bytes(9999),
    "zstd": squeezed(NOISE + bytes(20 * MIB)),
    "frames": squeezed(NOISE) + squeezed(b"") + squeezed(NOISE),
    "the largest window": squeezed(bytes(200 * MIB), window_log=27),
    "tar": NOISE,
    "nothing": b"",
}
INVALID = {
    "truncated gzip": (gzip.compress(NOISE)[:-9], Fault.TRUNCATED),
    "damaged gzip": (gzip.compress(NOISE)[:MIB] + bytes(MIB) + b"x", Fault.INVALID_GZIP),
    "a tail after gzip": (gzip.compress(NOISE) + b"tail", Fault.INVALID_GZIP),
    "damaged zstd": (squeezed(NOISE)[:4] + b"\xff" * 99, Fault.INVALID_ZSTD),
    "a large window": (squeezed(bytes(300 * MIB), window_log=28), Fault.TOO_LARGE_WINDOW),
}


def pieces(decoder: Callable[..., object], packed: bytes) -> bytes:
    source = io.BytesIO(packed)
    head = source.read(100)
    found: list[bytes] = list(decoder(Packing.of(head), head, Sips(source)))  # type: ignore[call-overload]
    return b"".join(found)


class Sips:
    """Gives a source in parts."""

    def __init__(self, source: io.BytesIO) -> None:
        self._source = source

    def read(self, _size: int = -1, /) -> bytes:
        return self._source.read(70_000)


@pytest.mark.parametrize("packed", VALID.values(), ids=VALID)
def test_a_sandbox_decompresses_as_the_own_process_does(packed: bytes) -> None:
    assert pieces(decode_sandboxed, packed) == pieces(decode, packed)


@pytest.mark.parametrize(("packed", "fault"), INVALID.values(), ids=INVALID)
def test_a_sandbox_finds_the_same_faults(packed: bytes, fault: Fault) -> None:
    for decoder in (decode, decode_sandboxed):
        with pytest.raises(DecodeError) as found:
            pieces(decoder, packed)
        assert found.value.fault is fault


def test_the_process_has_no_rights_no_environment_and_ends_with_its_reader() -> None:
    packed = io.BytesIO(VALID["gzip"])
    running = decode_sandboxed(Packing.GZIP, packed.read(MIB), Sips(packed))
    next(running)
    (process,) = (each for each in psutil.Process().children() if "sandbox" in " ".join(each.cmdline()))
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    assert process.environ() == {}
    assert process.num_fds() == 3
    running.close()
    assert not process.is_running()


@pytest.mark.parametrize(
    "attack",
    [
        "open('/etc/hostname')",
        "os.listdir('/proc')",
        "socket.socket()",
        "os.fork()",
        "os.execv('/bin/true', ['true'])",
        "os.kill(os.getppid(), 0)",
        "os.pipe()",
        "os.setuid(0)",
        "libc.ptrace(16, os.getppid(), 0, 0)",
        "libc.syscall(0x40000000 + 2, b'/etc/hostname', 0)",
        "libc.prctl(4, 1, 0, 0, 0)",
    ],
)
def test_any_other_system_call_kills_the_process(attack: str) -> None:
    ended = subprocess.run([sys.executable, "-I", "-c", CONFINED + attack], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGSYS, ended.stderr


def test_the_process_cannot_take_much_memory() -> None:
    take = "\ntry:\n  bytes(2 << 30)\nexcept MemoryError:\n  os._exit(7)\nos._exit(0)"
    ended = subprocess.run([sys.executable, "-I", "-c", CONFINED + take], capture_output=True, check=False)
    assert ended.returncode == 7, ended.stderr


SANDBOXED = "registry.imports.recompress.sandboxed"


def run_instead(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Run this Python program in place of the sandbox."""
    monkeypatch.setattr(f"{SANDBOXED}._COMMAND", (sys.executable, "-I", "-c", program))


CRASHES = (signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV)


@pytest.mark.parametrize(
    "program",
    [CONFINED + "os.getppid()", *(f"import os; os.kill(os.getpid(), {number})" for number in CRASHES)],
)
def test_a_layer_that_makes_the_process_crash_is_not_valid(
    monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    run_instead(monkeypatch, program)
    with pytest.raises(DecodeError) as found:
        pieces(decode_sandboxed, VALID["gzip"])
    assert found.value.fault is Fault.INVALID_GZIP


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_process_that_the_machine_ended_says_nothing_about_the_layer(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    # `nohup` makes children ignore SIGHUP
    program = (
        f"import os, signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); os.kill(os.getpid(), {number})"
    )
    run_instead(monkeypatch, program)
    with pytest.raises(RuntimeError):
        pieces(decode_sandboxed, VALID["gzip"])


def test_a_process_that_cannot_be_confined_decompresses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    run_instead(monkeypatch, "raise OSError")
    with pytest.raises(RuntimeError):
        pieces(decode_sandboxed, VALID["gzip"])


@pytest.mark.parametrize("first", ["pass", "os.close(1)", "os.close(0)"])
def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    run_instead(monkeypatch, f"import os, signal; {first}; signal.pause()")
    monkeypatch.setattr(f"{SANDBOXED}.STALL_S", 0.2)
    with pytest.raises(subprocess.TimeoutExpired):
        pieces(decode_sandboxed, VALID["gzip"])
    assert not [each for each in psutil.Process().children() if "signal.pause()" in " ".join(each.cmdline())]


def test_the_process_is_not_in_the_group_that_a_terminal_interrupts() -> None:
    before = set(psutil.Process().children())
    running = decode_sandboxed(Packing.GZIP, VALID["gzip"], Sips(io.BytesIO()))
    next(running)
    (process,) = set(psutil.Process().children()) - before
    group = os.getpgid(process.pid)
    running.close()
    assert group != os.getpgrp()
