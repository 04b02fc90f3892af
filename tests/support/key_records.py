"""Key records in a dictionary, for tests of what lies above them."""

from collections import Counter
from collections.abc import Sequence

from storage.digest import Digest
from storage.ports import KeyRecord, KeyUse


class MemoryKeyRecords:
    """Keeps records by tenant and digest; passes the same contract suite as the catalog's table."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, Digest], KeyRecord] = {}

    async def get(self, tenant: str, digest: Digest) -> KeyRecord | None:
        return self.rows.get((tenant, digest))

    async def find(self, digest: Digest) -> KeyRecord | None:
        return next((row for row in self.rows.values() if row.digest == digest), None)

    async def add(self, record: KeyRecord) -> KeyRecord:
        return self.rows.setdefault((record.tenant, record.digest), record)

    async def remove(self, tenant: str, digest: Digest) -> KeyRecord | None:
        return self.rows.pop((tenant, digest), None)

    async def uses(self, object_name: str) -> int:
        return sum(row.object_name == object_name for row in self.rows.values())

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
