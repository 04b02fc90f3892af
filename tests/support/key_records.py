"""Key records in a dictionary, for tests of what lies above them."""

from storage.digest import Digest
from storage.ports import KeyRecord


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
