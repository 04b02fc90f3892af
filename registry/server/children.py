"""Child processes that end with their parent, even if it is killed with SIGKILL (Linux)."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from registry.server.prctl import die_with_parent


def spawn(
    arguments: Sequence[str],
    *,
    keep: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
    output: IO[bytes] | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start a child that the kernel signals when this process dies.

    Call this from the main thread only, because the kernel signals the child when the thread that started
    it ends. The child gets its own process group, so that Ctrl-C reaches only the parent, which then stops
    its children in order.

    Args:
        keep: Descriptors that the child inherits.
        death_signal: Signal for the child when its parent dies.
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
        die_with_parent(death_signal)
        if os.getppid() != parent:  # the parent died between fork and prctl
            os._exit(1)

    return prepare
