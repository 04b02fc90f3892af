"""Scrubbing of stored blobs, as `crisper scrub` runs it."""

from collections.abc import Callable
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
    """Runs the scrubber under a lease, resuming where the last run stopped."""

    def __init__(
        self, blobs: BlobStore, quarantine: SqlQuarantine, damage: DamageReporter, upkeep: SqlUpkeep
    ) -> None:
        self._blobs = blobs
        self._quarantine = quarantine
        self._damage = damage
        self._upkeep = upkeep

    async def run(
        self,
        bytes_per_s: float,
        *,
        restart: bool = False,
        report: Callable[[Scrubbed], None] = lambda _: None,
    ) -> Scrubbed:
        """Scrub the rest of the current round.

        Args:
            restart: Start a new round.
            report: Called after every read with the result so far.

        Raises:
            ConflictError: Another process is scrubbing.
            StorageError, CatalogUnavailableError: The run was aborted; the next run resumes here.
        """
        async with Lease.hold(self._upkeep, SCRUB) as lease:
            after = "" if restart else (await self._upkeep.state(SCRUB)).cursor
            scrubber = Scrubber(
                self._blobs,
                self._quarantine,
                quarantine=self._damage.quarantine,
                advance=lease.advance,
                bytes_per_s=bytes_per_s,
                check_lease=lease.extend,
                report=report,
            )
            done = await scrubber.run(after)
            await lease.finish(asdict(done))
        return done
