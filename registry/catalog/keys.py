"""Key records: how each tenant opens each of its blobs (keeps `storage.ports.KeyRecords`)."""

from sqlalchemy import RowMapping, delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from registry.catalog.database import Database
from registry.catalog.tables import blob_keys
from storage.digest import Digest
from storage.ports import KeyRecord


class SqlKeyRecords:
    """The table `blob_keys`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, tenant: str, digest: Digest) -> KeyRecord | None:
        """Return this tenant's record for a digest."""
        query = select(blob_keys).where(blob_keys.c.tenant == tenant, blob_keys.c.digest == str(digest))
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return _record(row) if row else None

    async def find(self, digest: Digest) -> KeyRecord | None:
        """Return any tenant's record for a digest."""
        query = select(blob_keys).where(blob_keys.c.digest == str(digest)).limit(1)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return _record(row) if row else None

    async def add(self, record: KeyRecord) -> KeyRecord:
        """Insert the record unless (tenant, digest) has one; return the one that stands."""
        values = {
            "tenant": record.tenant,
            "digest": str(record.digest),
            "file_id": record.file_id,
            "object_name": record.object_name,
            "size_bytes": record.size_bytes,
            "stored_bytes": record.stored_bytes,
            "kek_id": record.kek_id,
            "wrapped_dek": record.wrapped_dek,
        }
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(blob_keys).values(values))
        except IntegrityError:
            standing = await self.get(record.tenant, record.digest)
            if standing is None:
                raise
            return standing
        return record

    async def remove(self, tenant: str, digest: Digest) -> KeyRecord | None:
        """Delete and return a record: the tenant can no longer open the blob."""
        where = (blob_keys.c.tenant == tenant, blob_keys.c.digest == str(digest))
        async with self._database.write() as connection:
            row = (await connection.execute(select(blob_keys).where(*where))).mappings().first()
            await connection.execute(delete(blob_keys).where(*where))
        return _record(row) if row else None

    async def uses(self, object_name: str) -> int:
        """Count the records that refer to an object."""
        query = select(func.count()).select_from(blob_keys).where(blob_keys.c.object_name == object_name)
        async with self._database.read() as connection:
            return int((await connection.execute(query)).scalar_one())


def _record(row: RowMapping) -> KeyRecord:
    return KeyRecord(**{**row, "digest": Digest.parse(row["digest"])})
