"""The minimum download rate of an import (docs/importer.md, "Transfer")."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from registry.errors import PullFailedError

WINDOW_S: Final = 600.0


class MinimumRate:
    """Fails an import whose upstream sends less than a minimum, measured over each `window_s` of waiting.

    Counts only the time in which a download of the import waits for the upstream, so that neither slow
    storage nor the operator's bandwidth limit looks like a slow upstream.

    Args:
        host: The registry, for the error.
        bytes_per_s: The minimum; 0 disables it.
        window_s: Time of waiting over which the rate is measured.
        now: Monotonic clock.
    """

    def __init__(
        self,
        host: str,
        bytes_per_s: int,
        window_s: float = WINDOW_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._bytes_per_s = bytes_per_s
        self._window_s = window_s
        self._now = now
        self._waiting = 0
        self._since = 0.0
        self._waited_s = 0.0
        self._received = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time within the context as waiting for the upstream."""
        self._change(1)
        try:
            yield
        finally:
            self._change(-1)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time within the context, although a download waits for it."""
        self._change(-1)
        try:
            yield
        finally:
            self._change(1)

    def received(self, count: int) -> None:
        """Count new bytes.

        Raises:
            PullFailedError: The upstream sent less than the minimum in this window.
        """
        self._change(0)
        self._received += count
        if self._waited_s < self._window_s:
            return
        rate, enough = self._received / self._waited_s, self._bytes_per_s
        self._waited_s, self._received = 0.0, 0
        if rate < enough:
            raise PullFailedError(
                f"{self._host} sends too slowly: {rate / 1000:.0f} kB/s over {self._window_s / 60:.0f} "
                f"minutes, and imports need {enough / 1000:.0f} kB/s. Check the registry's connection, or "
                "copy the image to a faster registry"
            )

    def _change(self, by: int) -> None:
        now = self._now()
        if self._waiting > 0:
            self._waited_s += now - self._since
        self._since = now
        self._waiting += by
