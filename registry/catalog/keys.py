"""Key records: how each tenant opens each of its blobs (keeps `storage.ports.KeyRecords`)."""

from sqlalchemy import ColumnElement, RowMapping, delete, exists, func, insert, not_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.catalog.database import Database
from registry.catalog.tables import blob_keys, object_marks, quarantine
from storage.digest import Digest
from storage.errors import StorageUnavailableError
from storage.ports import KeyRecord


class SqlKeyRecords:
    """The table `blob_keys`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, tenant: str, digest: Digest) -> KeyRecord | None:
        """Return this tenant's record for a digest, unless its object is known to be damaged."""
        query = select(blob_keys).where(
            blob_keys.c.tenant == tenant, blob_keys.c.digest == str(digest), not_(_is_quarantined())
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return record_of(row) if row else None

    async def find(self, digest: Digest) -> KeyRecord | None:
        """Return any tenant's record for a digest whose object is not known to be damaged."""
        query = select(blob_keys).where(blob_keys.c.digest == str(digest), not_(_is_quarantined())).limit(1)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return record_of(row) if row else None

    async def add(self, record: KeyRecord) -> KeyRecord:
        """Insert the record unless (tenant, digest) has one; return the one that stands.

        A record whose object is known to be damaged gives way.

        Raises:
            StorageUnavailableError: The object was collected meanwhile; present the blob again.
        """
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
                await self._database.exclude_collection(connection)
                if await self._is_condemned(connection, record.object_name):
                    raise StorageUnavailableError("the object was collected before its key record was there")
                await connection.execute(
                    delete(blob_keys).where(
                        blob_keys.c.tenant == record.tenant,
                        blob_keys.c.digest == str(record.digest),
                        _is_quarantined(),
                    )
                )
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
        return record_of(row) if row else None

    async def damaged(self, tenant: str, digest: Digest) -> bool:
        """Tell whether this tenant has a record whose object is known to be damaged."""
        query = select(blob_keys.c.tenant).where(
            blob_keys.c.tenant == tenant, blob_keys.c.digest == str(digest), _is_quarantined()
        )
        async with self._database.read() as connection:
            return (await connection.execute(query)).first() is not None

    async def uses(self, object_name: str) -> int:
        """Count the records that refer to an object."""
        query = select(func.count()).select_from(blob_keys).where(blob_keys.c.object_name == object_name)
        async with self._database.read() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def _is_condemned(self, connection: AsyncConnection, object_name: str) -> bool:
        query = select(object_marks.c.object_name).where(
            object_marks.c.object_name == object_name, object_marks.c.condemned_at.is_not(None)
        )
        return (await connection.execute(query)).first() is not None


def _is_quarantined() -> ColumnElement[bool]:
    return exists().where(quarantine.c.object_name == blob_keys.c.object_name)


def record_of(row: RowMapping) -> KeyRecord:
    """Return a row of `blob_keys` as a value."""
    return KeyRecord(**{**row, "digest": Digest.parse(row["digest"])})
