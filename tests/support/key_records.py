"""Key records in a dictionary, and their collection, for tests of what lies above them."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from storage.digest import Digest
from storage.records import KeyRecord, KeyUse


class MemoryKeyRecords:
    """Keeps records by tenant and digest; passes the same contract suite as the catalog's table."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, Digest], KeyRecord] = {}
        self.quarantined: set[str] = set()
        self.replaced: list[tuple[float, KeyRecord]] = []

    async def get(self, tenant: str, digest: Digest) -> KeyRecord | None:
        row = self.rows.get((tenant, digest))
        return row if row is not None and row.object_name not in self.quarantined else None

    async def find(self, digest: Digest, *, deliverable: bool = False) -> KeyRecord | None:
        found = (row for row in self.rows.values() if row.digest == digest and row.deliverable >= deliverable)
        return next((row for row in found if row.object_name not in self.quarantined), None)

    async def damaged(self, tenant: str, digest: Digest) -> bool:
        row = self.rows.get((tenant, digest))
        return row is not None and row.object_name in self.quarantined

    async def add(self, record: KeyRecord, replaces: KeyRecord | None = None) -> KeyRecord:
        stands = self.rows.get((record.tenant, record.digest))
        if stands is not None and (
            await self.damaged(record.tenant, record.digest)
            or (replaces is not None and stands.object_name == replaces.object_name)
        ):
            del self.rows[record.tenant, record.digest]
            if replaces is not None and stands.deliverable:
                self.replaced.append((time.time(), stands))
        return self.rows.setdefault((record.tenant, record.digest), record)

    async def remove(self, tenant: str, digest: Digest) -> KeyRecord | None:
        kept = [each for each in self.replaced if (each[1].tenant, each[1].digest) != (tenant, digest)]
        self.replaced = kept
        return self.rows.pop((tenant, digest), None)

    async def as_of(self, tenant: str, digests: Sequence[Digest], at: float) -> Mapping[Digest, KeyRecord]:
        now = {digest: row for digest in digests if (row := await self.get(tenant, digest))}
        since = [row for when, row in reversed(self.replaced) if when > at and row.tenant == tenant]
        return now | {row.digest: row for row in since if row.digest in digests}

    async def retired(self, tenant: str, digest: Digest, ciphertext: Digest) -> KeyRecord | None:
        wanted = (tenant, digest, ciphertext)
        rows = (row for _, row in self.replaced)
        return next((row for row in rows if (row.tenant, row.digest, row.ciphertext) == wanted), None)

    async def uses(self, object_name: str) -> int:
        rows = (*self.rows.values(), *(row for _, row in self.replaced))
        return sum(object_name in row.objects for row in rows)

    async def census(self) -> list[KeyUse]:
        counted = Counter((row.tenant, row.kek_id) for row in self.rows.values())
        return sorted(KeyUse(*key, records) for key, records in counted.items())

    async def page(self, tenant: str, kek_id: str, after: str, limit: int) -> list[KeyRecord]:
        mine = (row for row in self.rows.values() if (row.tenant, row.kek_id) == (tenant, kek_id))
        return sorted((row for row in mine if str(row.digest) > after), key=lambda row: str(row.digest))[
            :limit
        ]

    async def replace(self, changes: Sequence[tuple[KeyRecord, KeyRecord]]) -> int:
        changed = 0
        for old, new in changes:
            if self.rows.get((old.tenant, old.digest)) == old:
                self.rows[old.tenant, old.digest] = new
                changed += 1
        return changed


class MemoryPartials:
    """Unfinished containers in a dictionary; all of them are wanted. Passes the catalog's contract suite."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, Digest], KeyRecord] = {}

    async def get(self, tenant: str, digest: Digest) -> KeyRecord | None:
        return self.rows.get((tenant, digest))

    async def put(self, record: KeyRecord) -> None:
        self.rows[record.tenant, record.digest] = record

    async def drop(self, record: KeyRecord) -> None:
        kept = self.rows.get((record.tenant, record.digest))
        if kept is not None and kept.object_name == record.object_name:
            del self.rows[record.tenant, record.digest]

    async def wanted(self) -> set[str]:
        return {row.object_name for row in self.rows.values()}


class NothingDies:
    """The collection's catalog over records that are all alive: only objects without a record go, at once."""

    def __init__(self, records: MemoryKeyRecords) -> None:
        self._records = records
        self._orphans: list[str] = []
        self._tombstones: list[str] = []

    async def unknown(self, names: Sequence[str]) -> Sequence[str]:
        return [name for name in names if await self._records.uses(name) == 0]

    async def mark(self, orphans: Sequence[str]) -> None:
        self._orphans = list(orphans)

    async def marked(self) -> tuple[int, int]:
        return 0, len(self._orphans)

    async def due_records(self, grace_s: float, limit: int) -> Sequence[KeyRecord]:  # noqa: ARG002
        return []

    async def due_orphans(self, grace_s: float, limit: int) -> Sequence[str]:  # noqa: ARG002
        return self._orphans[:limit]

    async def remove_records(self, grace_s: float, limit: int) -> Sequence[KeyRecord]:  # noqa: ARG002
        return []

    async def tombstone_orphans(self, grace_s: float, limit: int) -> int:  # noqa: ARG002
        due, self._orphans = self._orphans[:limit], self._orphans[limit:]
        self._tombstones += due
        return len(due)

    async def tombstones(self, limit: int) -> Sequence[str]:
        return self._tombstones[:limit]

    async def record_removal(self, names: Sequence[str]) -> None:
        self._tombstones = [name for name in self._tombstones if name not in names]

    async def partials(self) -> Sequence[str]:
        return []

    async def remove_images(self) -> int:
        return 0


async def check_lease() -> None:
    """Keep a lease without contention."""
