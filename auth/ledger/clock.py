"""Steps of the ledger's clock, noticed by comparing it with monotonic time."""

import time


class LedgerClock:
    """Remembers when the ledger's clock last stepped forward.

    The ledger's records expire by its wall clock, so that a step can remove the record of a response that is
    running. A ledger that lost its data has no such step.

    Args:
        least_s: Smallest step that counts; shorter ones remove no record.
    """

    def __init__(self, least_s: float) -> None:
        self._least_s = least_s
        self._offset_s: float | None = None
        self._stepped_at_s: float | None = None

    def observe(self, now_ms: int) -> None:
        """Compare the ledger's time, which has just arrived, with the monotonic time."""
        monotonic_s = time.monotonic()
        offset_s = now_ms / 1000 - monotonic_s
        if self._offset_s is not None and offset_s - self._offset_s >= self._least_s:
            self._stepped_at_s = monotonic_s
        self._offset_s = offset_s

    def stepped_since(self, monotonic_s: float) -> bool:
        """Return whether a step was noticed after a point of monotonic time."""
        return self._stepped_at_s is not None and self._stepped_at_s >= monotonic_s
