"""The catalog as garbage collection and scrubbing see it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from storage.digest import Digest
from storage.records import KeyRecord


@dataclass(frozen=True, slots=True)
class DeadRecord:
    """A key record that nothing refers to. `stored_bytes` are its object's, which others may still use."""

    tenant: str
    digest: Digest
    object_name: str
    stored_bytes: int


class CollectionCatalog(Protocol):
    """What the catalog knows of the dead (docs/adr/0026-garbage-collection-by-marks-and-pins.md).

    Every method that condemns decides and acts in one transaction that excludes those which pin a blob,
    add a key record or make an image visible. What was condemned never comes back.
    """

    async def unknown(self, names: Sequence[str]) -> Sequence[str]:
        """Return those objects that no key record refers to."""

    async def mark(self, orphans: Sequence[str]) -> None:
        """Mark what is dead now and was not before; unmark what came back to life.

        Args:
            orphans: Every object in storage that `unknown` returned.
        """

    async def due_records(self, grace_s: float, limit: int) -> Sequence[DeadRecord]:
        """Return records that are dead, and have been marked for `grace_s`."""

    async def due_orphans(self, grace_s: float, limit: int) -> Sequence[str]:
        """Return objects that no record refers to, and that have been marked for `grace_s`."""

    async def marked(self) -> tuple[int, int]:
        """Count the records and the objects that are marked."""

    async def condemn_records(self, grace_s: float, limit: int) -> Sequence[DeadRecord]:
        """Remove due records, and condemn the objects that were only theirs; return what was removed."""

    async def condemn_orphans(self, grace_s: float, limit: int) -> int:
        """Condemn due orphans; return how many."""

    async def condemned(self, limit: int) -> Sequence[str]:
        """Return condemned objects that are not known to be removed."""

    async def bury(self, names: Sequence[str]) -> None:
        """Note that condemned objects are removed; their names stay refused for a week."""

    async def partials(self) -> Collection[str]:
        """Forget unfinished containers that nobody needs; name the objects of the rest."""

    async def remove_images(self) -> int:
        """Remove images that no version of a group has; return how many."""


class ScrubCatalog(Protocol):
    """Which objects there are to scrub, and which of them are in quarantine."""

    async def objects_after(self, object_name: str, limit: int) -> Sequence[Sequence[KeyRecord]]:
        """Return the records of the next objects by name, those of one object together."""

    async def is_quarantined(self, object_name: str) -> bool:
        """Tell whether an object is known to be damaged."""

    async def lift(self, object_name: str) -> None:
        """Put an object back into service: it verifies after all."""
