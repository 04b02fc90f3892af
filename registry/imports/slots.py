"""Slots of one process for running imports, shared by organizations (docs/importer.md, "Jobs").

An import that waits for a slow upstream costs little, so it does not count towards the limit of running
imports (docs/adr/0057-share-import-workers-between-organizations.md). Performs no I/O.
"""

from collections import Counter
from collections.abc import Callable, Collection
from typing import Final

from registry.model.imports import Progress, Stage

SLOW_BYTES_PER_S: Final = 1_000_000
WINDOW_S: Final = 2.0
PLACES_PER_JOB: Final = 8  # including slow imports; limits the memory of a process


class Slot:
    """One running import, as it counts towards the limits of its process.

    Attributes:
        is_slow: In the last window, the import waited for its upstream most of the time.
    """

    def __init__(self, organization: str, now: float) -> None:
        self.organization = organization
        self.is_slow = False
        self._progress = Progress(Stage.PULLING)
        self._since, self._bytes = now, 0

    def follow(self, progress: Progress) -> None:
        """Record the import's progress."""
        self._progress = progress

    def measure(self, now: float) -> None:
        """Decide whether the import is slow, once per window."""
        passed_s = now - self._since
        if passed_s < WINDOW_S:
            return
        received = self._progress.bytes_done - self._bytes
        self.is_slow = self._progress.stage is Stage.PULLING and received < SLOW_BYTES_PER_S * passed_s
        self._since, self._bytes = now, self._progress.bytes_done


class ImportSlots:
    """Decides which organizations may start another import in this process.

    Args:
        jobs: Imports that may run at full speed. As many again may start for organizations that run none.
        now: Monotonic clock.
    """

    def __init__(self, jobs: int, now: Callable[[], float]) -> None:
        self._jobs = jobs
        self._now = now
        self._slots: set[Slot] = set()

    def enter(self, organization: str) -> Slot:
        """Count an import that starts."""
        slot = Slot(organization, self._now())
        self._slots.add(slot)
        return slot

    def leave(self, slot: Slot) -> None:
        """Count an import's end."""
        self._slots.remove(slot)

    def excluded(self) -> Collection[str] | None:
        """Return the organizations that may not start an import now; None if no organization may."""
        now = self._now()
        for slot in self._slots:
            slot.measure(now)
        busy = sum(not slot.is_slow for slot in self._slots)
        free = PLACES_PER_JOB * self._jobs - len(self._slots)
        if free <= 0 or busy >= 2 * self._jobs:
            return None
        # No organization may run more imports than there are free places: it always leaves some to others.
        limit = free if busy < self._jobs else 1
        running = Counter(slot.organization for slot in self._slots)
        return [organization for organization, imports in running.items() if imports >= limit]
