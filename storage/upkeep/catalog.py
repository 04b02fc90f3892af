"""Ports to the catalog for garbage collection and scrubbing."""

from collections.abc import Collection, Sequence
from typing import Protocol

from storage.records import KeyRecord


class CollectionCatalog(Protocol):
    """Garbage in the catalog (docs/adr/0026-garbage-collection-by-marks-and-pins.md).

    Methods that remove records or add tombstones run in one transaction, which excludes transactions that pin
    a blob, add a key record or publish an image. An object with a tombstone is never used again.
    """

    async def unknown(self, names: Sequence[str]) -> Sequence[str]:
        """Return the objects that no key record refers to."""

    async def mark(self, orphans: Sequence[str]) -> None:
        """Mark records and objects that are newly unreferenced; unmark those that are referenced again.

        Args:
            orphans: All objects in storage that `unknown` returned.
        """

    async def due_records(self, grace_s: float, limit: int) -> Sequence[KeyRecord]:
        """Return unreferenced records that have been marked for `grace_s`."""

    async def due_orphans(self, grace_s: float, limit: int) -> Sequence[str]:
        """Return objects without a record that have been marked for `grace_s`."""

    async def marked(self) -> tuple[int, int]:
        """Return the numbers of marked records and of marked objects."""

    async def remove_records(self, grace_s: float, limit: int) -> Sequence[KeyRecord]:
        """Remove due records, and add tombstones for objects without another record. Returns the records."""

    async def tombstone_orphans(self, grace_s: float, limit: int) -> int:
        """Add tombstones for due orphans. Returns their number."""

    async def tombstones(self, limit: int) -> Sequence[str]:
        """Return objects with a tombstone that have not been recorded as removed."""

    async def record_removal(self, names: Sequence[str]) -> None:
        """Record that objects are removed. Their names stay blocked for a week."""

    async def partials(self) -> Collection[str]:
        """Delete records of unneeded unfinished containers. Returns the object names of the others."""

    async def remove_images(self) -> int:
        """Remove images that no group version refers to. Returns their number."""


class ScrubCatalog(Protocol):
    """Lists objects for scrubbing, and their quarantine."""

    async def objects_after(self, object_name: str, limit: int) -> Sequence[Sequence[KeyRecord]]:
        """Return the records of the next objects by name, grouped by object."""

    async def is_quarantined(self, object_name: str) -> bool:
        """Return whether an object is in quarantine."""

    async def lift(self, object_name: str) -> None:
        """Remove an object from quarantine, because it has verified."""
