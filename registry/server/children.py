"""Child processes that never outlive their parent, not even a kill -9 of it (Linux)."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import IO

_PR_SET_PDEATHSIG = 1
# Loaded before any fork: between fork and exec nothing may be loaded.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def spawn(
    arguments: Sequence[str],
    *,
    keep: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
    output: IO[bytes] | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start a child that the kernel signals when this process dies.

    The kernel counts the death of the thread that spawned, so call this from the main thread only.
    The child gets a process group of its own: Ctrl-C reaches the parent alone, which then stops its
    children in order.

    Args:
        keep: Descriptors that the child inherits.
        death_signal: What the child gets when its parent is gone.
    """
    return subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=dict(environment) if environment is not None else None,
        pass_fds=keep,
        process_group=0,
        preexec_fn=_die_with(os.getpid(), death_signal),  # noqa: PLW1509 (one thread, one prctl)
    )


def _die_with(parent: int, death_signal: signal.Signals) -> Callable[[], None]:
    def prepare() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return prepare
