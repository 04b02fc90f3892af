"""Quarantine of damaged blobs, with an event in the audit trail."""

from collections.abc import Sequence

from cachetools import TTLCache

from auth.ports import AuditEvent, AuditTrail
from registry.audit.types import RegistryEventType
from registry.catalog.quarantine import SqlQuarantine
from storage.digest import Digest
from storage.errors import BlobDamagedError, BlobMissingError
from storage.records import KeyRecord, KeyRecords

_QUIET_S = 300.0
_REMEMBERED = 1024


class DamageReporter:
    """Handles reports of damaged blobs from their readers.

    A damaged object is quarantined immediately: it is no longer served, and the next import of the blob
    stores it again. A missing object is only recorded, because an unmounted volume makes all objects appear
    missing; scrubbing decides.
    """

    def __init__(self, records: KeyRecords, quarantine: SqlQuarantine, trail: AuditTrail) -> None:
        self._records = records
        self._quarantine = quarantine
        self._trail = trail
        self._reported: TTLCache[tuple[str, Digest], bool] = TTLCache(_REMEMBERED, _QUIET_S)

    async def report(self, tenant: str, digest: Digest, error: BlobDamagedError) -> None:
        """Report that reading a tenant's blob failed."""
        record = await self._records.get(tenant, digest)
        if record is None:
            return  # already quarantined, or removed
        if isinstance(error, BlobMissingError):
            if (tenant, digest) not in self._reported:
                self._reported[tenant, digest] = True
                await self._trail.record(_event(record, str(error), "missing"))
            return
        await self.quarantine([record], str(error))

    async def quarantine(self, records: Sequence[KeyRecord], reason: str) -> None:
        """Quarantine an object, unless it already is, with an event for each tenant that has it."""
        events = (_event(record, reason, "damaged") for record in records)
        await self._quarantine.add(records[0].object_name, reason, *events)


def _event(record: KeyRecord, reason: str, cause: str) -> AuditEvent:
    detail = {"digest": str(record.digest), "object": record.object_name, "reason": reason}
    return AuditEvent(RegistryEventType.BLOB_DAMAGED, record.tenant, cause=cause, detail=detail)
