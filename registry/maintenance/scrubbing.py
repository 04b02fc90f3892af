"""Scrubbing as operators run it (keeps `storage.upkeep.catalog.ScrubCatalog`)."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from registry.catalog.maintenance import SqlUpkeep
from registry.catalog.quarantine import SqlQuarantine
from registry.maintenance.damage import DamageReporter
from registry.maintenance.lease import Lease
from storage.blobs import BlobStore
from storage.records import KeyRecord
from storage.upkeep.scrub import Scrubbed, Scrubber

SCRUB: Final = "scrub"


class Scrubbing:
    """Runs the scrubber under a lease, from where the last run was stopped."""

    def __init__(
        self, blobs: BlobStore, quarantine: SqlQuarantine, desk: DamageReporter, upkeep: SqlUpkeep
    ) -> None:
        self._blobs = blobs
        self._quarantine = quarantine
        self._desk = desk
        self._upkeep = upkeep

    async def run(self, bytes_per_s: float, *, restart: bool = False) -> Scrubbed:
        """Scrub what is left of the current round.

        Args:
            restart: Begin a round anew.

        Raises:
            ConflictError: Another process is scrubbing.
            StorageError, CatalogUnavailableError: The next run goes on from here.
        """
        async with Lease.hold(self._upkeep, SCRUB) as lease:
            after = "" if restart else (await self._upkeep.standing(SCRUB)).cursor
            catalog = _Catalog(self._quarantine, self._desk, lease)
            scrubber = Scrubber(self._blobs, catalog, bytes_per_s=bytes_per_s, still_ours=lease.still_ours)
            done = await scrubber.run(after)
            await lease.finish(asdict(done))
        return done


class _Catalog:
    def __init__(self, quarantine: SqlQuarantine, desk: DamageReporter, lease: Lease) -> None:
        self._quarantine = quarantine
        self._desk = desk
        self._lease = lease

    async def objects_after(self, object_name: str, limit: int) -> Sequence[Sequence[KeyRecord]]:
        return await self._quarantine.objects_after(object_name, limit)

    async def is_quarantined(self, object_name: str) -> bool:
        return await self._quarantine.has(object_name)

    async def quarantine(self, records: Sequence[KeyRecord], reason: str) -> None:
        await self._desk.quarantine(records, reason)

    async def lift(self, object_name: str) -> None:
        await self._quarantine.lift(object_name)

    async def advance(self, object_name: str) -> None:
        await self._lease.advance(object_name)
