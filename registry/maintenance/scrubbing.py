"""Scrubbing as operators run it."""

from dataclasses import asdict
from typing import Final

from registry.catalog.maintenance import SqlUpkeep
from registry.catalog.quarantine import SqlQuarantine
from registry.maintenance.damage import DamageReporter
from registry.maintenance.lease import Lease
from storage.blobs import BlobStore
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
            scrubber = Scrubber(
                self._blobs,
                self._quarantine,
                quarantine=self._desk.quarantine,
                advance=lease.advance,
                bytes_per_s=bytes_per_s,
                still_ours=lease.still_ours,
            )
            done = await scrubber.run(after)
            await lease.finish(asdict(done))
        return done
