"""Decompression in a process of its own, without rights, for layers of strangers. Blocking."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Generator
from typing import Final

import structlog

from registry.imports.recompress.decode import (
    CHUNK_BYTES,
    ByteSource,
    DecodeError,
    Fault,
    Packing,
    decode,
)

STALL_S: Final = 120.0
"""How long the process may neither read nor write nor end. It needs milliseconds, if busy, seconds."""

_COMMAND: Final = (sys.executable, "-I", "-m", "registry.imports.recompress.sandbox")
#: Of the filter of system calls, and of crashes. Others come from the machine: a stop, a lack of memory.
_SIGNALS_OF_LAYERS: Final = frozenset(
    {signal.SIGSYS, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE}
)
_log = structlog.get_logger(__name__)


def decode_sandboxed(packing: Packing, head: bytes, source: ByteSource) -> Generator[bytes]:
    """Yield the decompressed bytes, in pieces of at most `CHUNK_BYTES`.

    A plain tar is passed on: there is nothing to decompress.

    Raises:
        DecodeError: The bytes are not valid, or over a limit; or they made the process crash.
        RuntimeError: The process could not give up its rights, or the machine ended it.
        TimeoutExpired: The process hangs.
    """
    if packing not in {Packing.GZIP, Packing.ZSTD}:
        yield from decode(packing, head, source)
        return
    with subprocess.Popen(
        [*_COMMAND, packing],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        process_group=0,  # Ctrl-C in a terminal is for the server only
    ) as process:
        try:
            yield from _exchange(process, head, source)
            process.wait(STALL_S)
        except BaseException:
            process.kill()
            raise
    status = process.returncode
    if status in set(Fault):
        raise DecodeError(Fault(status))
    if status < 0:
        _log.warning("layer.decoder_killed", packing=packing.value, signal=-status)
    if -status in _SIGNALS_OF_LAYERS:
        raise DecodeError(Fault.INVALID_GZIP if packing is Packing.GZIP else Fault.INVALID_ZSTD)
    if status:
        raise RuntimeError("the process that unpacks layers has failed")


def _exchange(process: "subprocess.Popen[bytes]", head: bytes, source: ByteSource) -> Generator[bytes]:
    """Send the source to the process while receiving, so that neither waits for the other."""
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the process has no pipes")
    to, out, poll = process.stdin.fileno(), process.stdout.fileno(), select.poll()
    os.set_blocking(to, False)
    poll.register(to, select.POLLOUT)
    poll.register(out, select.POLLIN)
    left: memoryview | None = memoryview(head)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll(STALL_S * 1000)}
        if not ready:
            raise subprocess.TimeoutExpired(process.args, STALL_S)
        if to in ready:
            left = left or memoryview(source.read())
            try:
                left = left[os.write(to, left) :] if left else None
            except BlockingIOError:
                pass
            except BrokenPipeError:  # the process has ended; its output remains
                left = None
            if left is None:
                poll.unregister(to)
                process.stdin.close()
        if out in ready:
            if not (piece := os.read(out, CHUNK_BYTES)):
                return
            yield piece
