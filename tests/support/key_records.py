"""Key records in a dictionary, for tests of what lies above them."""

from storage.digest import Digest
from storage.ports import KeyRecord


class MemoryKeyRecords:
    """Keeps records by tenant and digest; passes the same contract suite as the catalog's table."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, Digest], KeyRecord] = {}
        self.quarantined: set[str] = set()

    async def get(self, tenant: str, digest: Digest) -> KeyRecord | None:
        row = self.rows.get((tenant, digest))
        return row if row is not None and row.object_name not in self.quarantined else None

    async def find(self, digest: Digest) -> KeyRecord | None:
        found = (row for row in self.rows.values() if row.digest == digest)
        return next((row for row in found if row.object_name not in self.quarantined), None)

    async def damaged(self, tenant: str, digest: Digest) -> bool:
        row = self.rows.get((tenant, digest))
        return row is not None and row.object_name in self.quarantined

    async def add(self, record: KeyRecord) -> KeyRecord:
        if await self.damaged(record.tenant, record.digest):
            del self.rows[record.tenant, record.digest]
        return self.rows.setdefault((record.tenant, record.digest), record)

    async def remove(self, tenant: str, digest: Digest) -> KeyRecord | None:
        return self.rows.pop((tenant, digest), None)

    async def uses(self, object_name: str) -> int:
        return sum(row.object_name == object_name for row in self.rows.values())
