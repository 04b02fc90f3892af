"""The bandwidth limit of imports."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

_BURST_S: Final = 0.25


class Bandwidth:
    """A token bucket that all imports of a process share. Each caller waits for its own bytes.

    Args:
        bytes_per_s: 0 disables the limit.
    """

    def __init__(self, bytes_per_s: int, now: Callable[[], float] = time.monotonic) -> None:
        self._bytes_per_s = bytes_per_s
        self._now = now
        self._paid_until = now()

    async def pace(self, count: int) -> None:
        """Wait until `count` received bytes are within the limit."""
        if not self._bytes_per_s:
            return
        now = self._now()
        self._paid_until = max(self._paid_until, now - _BURST_S) + count / self._bytes_per_s
        if self._paid_until > now:
            await asyncio.sleep(self._paid_until - now)
