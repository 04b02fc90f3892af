"""Attributes of a process on Linux: core dumps, and the signal at the death of its parent."""

import ctypes
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
# Load before any fork, because nothing may be loaded between fork and exec.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def forbid_core_dumps() -> None:
    """Prevent that the memory of this process and its children, which contains keys, is written to a file.

    The limit applies to files. The kernel ignores it if it pipes core dumps to a program: therefore the dumps
    also contain no memory. Both are inherited, also through exec. Each process must itself become undumpable,
    so that other processes of the same user cannot read its memory; root can.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if _LIBC is None:
        return
    with suppress(OSError):  # /proc is read-only or not mounted
        Path("/proc/self/coredump_filter").write_text("0")  # before the next line, which gives it to root
    _LIBC.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def die_with_parent(death_signal: signal.Signals) -> None:
    """Let the kernel signal this process when the thread that started it ends."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal))
