"""The worker processes of a running server."""

from collections.abc import Iterator
from contextlib import suppress

import psutil

MODULE = "registry.server.workers"


def workers_of(pid: int) -> set[psutil.Process]:
    """Return the workers of the server `pid` that are alive, those that are on their way out included."""
    return set(_alive(psutil.Process(pid).children()))


def _alive(children: list[psutil.Process]) -> Iterator[psutil.Process]:
    for child in children:
        with suppress(psutil.NoSuchProcess):  # a zombie is one
            if MODULE in child.cmdline():
                yield child
