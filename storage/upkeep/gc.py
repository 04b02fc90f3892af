"""Garbage collection of unreferenced records and objects, while servers run.

A run marks unreferenced records and objects. A later run removes them if they stayed unreferenced for the
whole grace period. Every error ends the run, so that an object that could not be checked is never removed.
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
    """Result of a run. A dry run counts what it would remove.

    Attributes:
        objects_seen: Objects in storage.
        marked_records: Unreferenced key records in their grace period.
        marked_objects: Objects without a record in their grace period.
        images: Removed images.
        records: Removed key records; their tenants can no longer open these blobs.
        objects: Removed objects.
        bytes: Size of the removed objects.
        temporaries: Removed unfinished objects of dead writers.
        partials: Unfinished objects that an import may resume.
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
    """Garbage collector. Concurrent runs are harmless, but wasteful.

    Args:
        check_lease: Awaited between steps; raises if the lease is lost, which ends the run.
        report: Called between steps with the result so far.
    """

    def __init__(
        self,
        objects: Objects,
        catalog: CollectionCatalog,
        check_lease: Callable[[], Awaitable[None]],
        report: Callable[[Collected], None] = lambda _: None,
    ) -> None:
        self._objects = objects
        self._catalog = catalog
        self._check_lease = check_lease
        self._report = report

    async def run(self, grace_s: float, *, dry_run: bool = False, force: bool = False) -> Collected:
        """Mark unreferenced records and objects, and remove those that were marked for `grace_s`.

        Args:
            grace_s: Grace period in seconds.
            dry_run: Only count.
            force: Continue even if the catalog lacks most stored objects.

        Raises:
            CollectionRefusedError: The catalog lacks most stored objects; it may be the wrong one.
            StorageError: Storage does not answer. The run has ended without further removals.
        """
        done = Collected(dry_run=dry_run)
        orphans = await self._orphans(done)
        if not force and len(orphans) > max(_PLAUSIBLE_ORPHANS, done.objects_seen // 2):
            raise CollectionRefusedError(
                f"{len(orphans)} of {done.objects_seen} stored objects are not in the catalog: "
                "check that it is the catalog of this storage, then run `crisper gc --force`"
            )
        if dry_run:
            await self._predict(grace_s, done)
            return done
        await self._catalog.mark(orphans)
        await self._sweep(grace_s, done)
        done.marked_records, done.marked_objects = await self._catalog.marked()
        return done

    async def _orphans(self, done: Collected) -> list[str]:
        orphans: list[str] = []
        async for names in self._objects.pieces():
            done.objects_seen += len(names)
            await self._step(done)
            orphans += await self._catalog.unknown(names)
        return orphans

    async def _predict(self, grace_s: float, done: Collected) -> None:
        everything = done.objects_seen + 1_000_000
        records = await self._catalog.due_records(grace_s, everything)
        done.records = len(records)
        names = {name: size_bytes for record in records for name, size_bytes in record.objects.items()}
        for name in await self._catalog.due_orphans(grace_s, everything):
            names[name] = await self._objects.size(name) or 0
        done.objects, done.bytes = len(names), sum(names.values())
        done.marked_records, done.marked_objects = await self._catalog.marked()

    async def _sweep(self, grace_s: float, done: Collected) -> None:
        done.images = await self._catalog.remove_images()
        while removed := await self._catalog.remove_records(grace_s, _BATCH):
            done.records += len(removed)
            await self._step(done)
        while await self._catalog.tombstone_orphans(grace_s, _BATCH):
            await self._step(done)
        while names := await self._catalog.tombstones(_BATCH):
            await self._step(done)
            for name in names:
                await self._remove(name, done)
            await self._catalog.record_removal(names)
        keep = await self._catalog.partials()
        done.partials, done.temporaries = len(keep), await self._objects.remove_leftovers(keep)

    async def _step(self, done: Collected) -> None:
        await self._check_lease()
        self._report(done)

    async def _remove(self, name: str, done: Collected) -> None:
        size_bytes = await self._objects.size(name)
        if size_bytes is not None and await self._objects.delete(name):
            done.objects += 1
            done.bytes += size_bytes
