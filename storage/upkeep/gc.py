"""Collection: finds what nothing refers to, waits, and removes it, while everybody goes on.

A record or object is first marked, and removed by a later run when it has been dead for the whole grace
period. Every error ends the run: what could not be listed or asked is never taken for dead.
See docs/operations.md, "collection", and docs/adr/0026-garbage-collection-by-marks-and-pins.md.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from storage.errors import CollectionRefusedError
from storage.objects import Objects
from storage.upkeep.catalog import CollectionCatalog

_BATCH = 200
_PLAUSIBLE_ORPHANS = 100


@dataclass(slots=True)
class Collected:
    """What a run found and removed; a dry run removes nothing and counts what it would have.

    Attributes:
        objects_seen: Objects that storage lists.
        marked_records: Key records that are dead and wait for their grace period to end.
        marked_objects: Objects without a record that wait likewise.
        images: Images that no group has any more.
        records: Key records removed: their blobs can no longer be opened by that tenant.
        objects: Objects removed.
        bytes: Of the removed objects.
        temporaries: Unfinished objects of writers that died, removed.
        partials: Unfinished objects that an import may go on with.
    """

    dry_run: bool = False
    objects_seen: int = 0
    marked_records: int = 0
    marked_objects: int = 0
    images: int = 0
    records: int = 0
    objects: int = 0
    bytes: int = 0
    temporaries: int = 0
    partials: int = 0


class Collector:
    """One run at a time; a second one at the same time wastes work and does no harm.

    Args:
        still_ours: Awaited between steps; raises when the run has to end.
    """

    def __init__(
        self, objects: Objects, catalog: CollectionCatalog, still_ours: Callable[[], Awaitable[None]]
    ) -> None:
        self._objects = objects
        self._catalog = catalog
        self._still_ours = still_ours

    async def run(self, grace_s: float, *, dry_run: bool = False, force: bool = False) -> Collected:
        """Mark what is dead, remove what has been dead for `grace_s`.

        Args:
            force: Believe the catalog even when it knows of nearly nothing that storage holds.

        Raises:
            CollectionRefusedError: Most of storage is unknown to the catalog; it may be the wrong one.
            StorageError: Storage does not answer; nothing more was removed.
        """
        done = Collected(dry_run=dry_run)
        orphans = await self._orphans(done)
        if not force and len(orphans) > max(_PLAUSIBLE_ORPHANS, done.objects_seen // 2):
            raise CollectionRefusedError(
                f"the catalog knows nothing of {len(orphans)} of {done.objects_seen} objects in storage: "
                "make sure that it is the catalog of this storage, then run `crisper gc --force`"
            )
        if dry_run:
            await self._foresee(grace_s, done)
            return done
        await self._catalog.mark(orphans)
        await self._sweep(grace_s, done)
        done.marked_records, done.marked_objects = await self._catalog.marked()
        return done

    async def _orphans(self, done: Collected) -> list[str]:
        orphans: list[str] = []
        async for names in self._objects.pieces():
            await self._still_ours()
            done.objects_seen += len(names)
            orphans += await self._catalog.unknown(names)
        return orphans

    async def _foresee(self, grace_s: float, done: Collected) -> None:
        everything = done.objects_seen + 1_000_000
        records = await self._catalog.due_records(grace_s, everything)
        done.records = len(records)
        names = {record.object_name: record.stored_bytes for record in records}
        for name in await self._catalog.due_orphans(grace_s, everything):
            names[name] = await self._objects.size(name) or 0
        done.objects, done.bytes = len(names), sum(names.values())
        done.marked_records, done.marked_objects = await self._catalog.marked()

    async def _sweep(self, grace_s: float, done: Collected) -> None:
        done.images = await self._catalog.remove_images()
        while removed := await self._catalog.condemn_records(grace_s, _BATCH):
            done.records += len(removed)
            await self._still_ours()
        while await self._catalog.condemn_orphans(grace_s, _BATCH):
            await self._still_ours()
        while names := await self._catalog.condemned(_BATCH):
            await self._still_ours()
            for name in names:
                await self._remove(name, done)
            await self._catalog.bury(names)
        keep = await self._catalog.partials()
        done.partials, done.temporaries = len(keep), await self._objects.remove_leftovers(keep)

    async def _remove(self, name: str, done: Collected) -> None:
        size_bytes = await self._objects.size(name)
        if size_bytes is not None and await self._objects.delete(name):
            done.objects += 1
            done.bytes += size_bytes
