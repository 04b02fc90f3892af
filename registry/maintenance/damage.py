"""What happens when a blob turns out to be damaged: out of service, and into the audit trail."""

from collections.abc import Sequence

from cachetools import TTLCache

from auth.ports import AuditEvent
from registry.audit.trail import EventLog
from registry.catalog.quarantine import SqlQuarantine
from storage.digest import Digest
from storage.errors import BlobDamagedError, BlobMissingError
from storage.records import KeyRecord, KeyRecords

_QUIET_S = 300.0
_REMEMBERED = 1024


class DamageReporter:
    """Takes reports of damage from whoever reads.

    A damaged object is taken out of service at once: it cannot be served anyway, and so the next import of
    the blob brings it anew. A missing one is only told about, because a folder that is not mounted misses
    them all; scrubbing decides.
    """

    def __init__(self, records: KeyRecords, quarantine: SqlQuarantine, events: EventLog) -> None:
        self._records = records
        self._quarantine = quarantine
        self._events = events
        self._reported: TTLCache[tuple[str, Digest], bool] = TTLCache(_REMEMBERED, _QUIET_S)

    async def report(self, tenant: str, digest: Digest, error: BlobDamagedError) -> None:
        """Note that a tenant's blob failed while it was read."""
        record = await self._records.get(tenant, digest)
        if record is None:
            return  # taken out of service already, or removed
        if isinstance(error, BlobMissingError):
            if (tenant, digest) not in self._reported:
                self._reported[tenant, digest] = True
                await self._tell(record, str(error), "missing")
            return
        await self.quarantine([record], str(error))

    async def quarantine(self, records: Sequence[KeyRecord], reason: str) -> None:
        """Take an object out of service, and tell every tenant that has it, unless it was already."""
        if await self._quarantine.add(records[0].object_name, reason):
            for record in records:
                await self._tell(record, reason, "damaged")

    async def _tell(self, record: KeyRecord, reason: str, cause: str) -> None:
        detail = {"digest": str(record.digest), "object": record.object_name, "reason": reason}
        await self._events.record(AuditEvent("blob.damaged", record.tenant, cause=cause, detail=detail))
