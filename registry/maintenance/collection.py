"""Garbage collection of unused blobs, as `crisper gc` and servers run it."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import Final

import structlog

from auth.ports import AuditEvent, Clock
from registry.audit.types import RegistryEventType
from registry.catalog.collection import SqlCollection
from registry.catalog.maintenance import SqlUpkeep
from registry.maintenance.lease import Lease
from storage.blobs import BlobStore
from storage.upkeep.gc import Collected, Collector

GC: Final = "gc"
_log = structlog.get_logger(__name__)


class Collection:
    """Runs the collector under a lease, and records the result."""

    def __init__(self, blobs: BlobStore, catalog: SqlCollection, upkeep: SqlUpkeep, clock: Clock) -> None:
        self._blobs = blobs
        self._catalog = catalog
        self._upkeep = upkeep
        self._clock = clock

    async def run(
        self,
        grace_s: float,
        *,
        dry_run: bool = False,
        force: bool = False,
        report: Callable[[Collected], None] = lambda _: None,
    ) -> Collected:
        """Collect once.

        Args:
            report: Called between steps with the result so far.

        Raises:
            ConflictError: Another process is collecting.
            CollectionRefusedError: The catalog may belong to another storage.
            StorageError, CatalogUnavailableError: The run was aborted; nothing more was removed.
        """
        async with Lease.hold(self._upkeep, GC) as lease:
            collector = Collector(self._blobs.objects, self._catalog, lease.extend, report)
            done = await collector.run(grace_s, dry_run=dry_run, force=force)
            if not dry_run:
                facts = asdict(done)
                removed = done.records or done.objects or done.temporaries
                event = AuditEvent(RegistryEventType.STORAGE_COLLECTED, detail=facts)
                await lease.finish(facts, *([event] if removed else []))
                _log.info("storage.collected", **facts)
        return done

    async def run_if_due(self, interval_s: float, grace_s: float) -> None:
        """Collect unless the last collection ended less than `interval_s` ago."""
        last = (await self._upkeep.state(GC)).finished_at
        if last is None or self._clock.now() - last >= timedelta(seconds=interval_s):
            await self.run(grace_s)
