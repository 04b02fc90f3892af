"""Takes damaged blobs out of service, with an event in the audit trail."""

import time
from collections import OrderedDict
from collections.abc import Sequence

from auth.ports import AuditEvent, AuditTrail
from registry.audit.types import RegistryEventType
from registry.catalog.quarantine import SqlQuarantine
from storage.digest import Digest
from storage.errors import BlobDamagedError, BlobMissingError
from storage.records import KeyRecord, KeyRecords

_QUIET_S = 300.0
_REMEMBERED = 1024


class DamageReporter:
    """Takes reports of damage from readers of blobs.

    A damaged object is taken out of service at once: it cannot be served, and the next import of the blob
    stores it again. A missing one is only recorded, because a folder that is not mounted misses them all;
    scrubbing decides.
    """

    def __init__(self, records: KeyRecords, quarantine: SqlQuarantine, trail: AuditTrail) -> None:
        self._records = records
        self._quarantine = quarantine
        self._trail = trail
        self._reported: OrderedDict[tuple[str, Digest], float] = OrderedDict()

    async def report(self, tenant: str, digest: Digest, error: BlobDamagedError) -> None:
        """Note that a tenant's blob failed while it was read."""
        record = await self._records.get(tenant, digest)
        if record is None:
            return  # taken out of service already, or removed
        if isinstance(error, BlobMissingError):
            if self._is_news(tenant, digest):
                await self._trail.record(_event(record, str(error), "missing"))
            return
        await self.quarantine([record], str(error))

    async def quarantine(self, records: Sequence[KeyRecord], reason: str) -> None:
        """Take an object out of service, with an event for each tenant that has it, unless it was already."""
        events = (_event(record, reason, "damaged") for record in records)
        await self._quarantine.add(records[0].object_name, reason, *events)

    def _is_news(self, tenant: str, digest: Digest) -> bool:
        now = time.monotonic()
        last = self._reported.get((tenant, digest))
        if last is not None and now - last < _QUIET_S:
            return False
        self._reported[tenant, digest] = now
        self._reported.move_to_end((tenant, digest))
        while len(self._reported) > _REMEMBERED:
            self._reported.popitem(last=False)
        return True


def _event(record: KeyRecord, reason: str, cause: str) -> AuditEvent:
    detail = {"digest": str(record.digest), "object": record.object_name, "reason": reason}
    return AuditEvent(RegistryEventType.BLOB_DAMAGED, record.tenant, cause=cause, detail=detail)
