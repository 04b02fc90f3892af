"""Key records, with which tenants open their blobs (implements `storage.records.KeyRecords`)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    Table,
    bindparam,
    delete,
    exists,
    func,
    insert,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from auth.ports import Clock
from registry.catalog.engine.database import Database, SystemClock, exclude_collection
from registry.catalog.engine.sqlite import Rows
from registry.catalog.tables import blob_keys, object_marks, quarantine, retired_keys
from storage.digest import Digest
from storage.errors import StorageUnavailableError
from storage.records import KeyRecord, KeyUse

_RECORD = [column for column in retired_keys.c if column is not retired_keys.c.retired_at]


class SqlKeyRecords:
    """The tables `blob_keys` and `retired_keys`."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock or SystemClock()

    async def get(self, tenant: str, digest: Digest) -> KeyRecord | None:
        """Return this tenant's record of a digest, unless its object is in quarantine."""
        named = {"tenant": tenant, "digest": str(digest)}
        async with self._database.read() as connection:
            return _first(await connection.execute(_OF_TENANT, named))

    async def find(self, digest: Digest, *, deliverable: bool = False) -> KeyRecord | None:
        """Return any tenant's record of a digest whose object is not in quarantine."""
        query = _OF_ANYBODY_DELIVERABLE if deliverable else _OF_ANYBODY
        async with self._database.read() as connection:
            return _first(await connection.execute(query, {"digest": str(digest)}))

    async def add(self, record: KeyRecord, replaces: KeyRecord | None = None) -> KeyRecord:
        """Insert the record unless (tenant, digest) has one. Returns the stored record.

        Replaces a record whose object is in quarantine, or is that of `replaces`.

        Raises:
            StorageUnavailableError: The object was collected meanwhile; ingest the blob again.
        """
        try:
            now = self._clock.now()
            await self._database.transact(partial(_add, record=record, replaces=replaces, now=now))
        except IntegrityError:
            stored = await self.get(record.tenant, record.digest)
            if stored is None:
                raise
            return stored
        return record

    async def remove(self, tenant: str, digest: Digest) -> KeyRecord | None:
        """Delete and return a record. The tenant can then no longer open the blob."""
        where = (blob_keys.c.tenant == tenant, blob_keys.c.digest == str(digest))
        async with self._database.write() as connection:
            row = (await connection.execute(select(blob_keys).where(*where))).mappings().first()
            await connection.execute(delete(blob_keys).where(*where))
            retired = (retired_keys.c.tenant == tenant, retired_keys.c.digest == str(digest))
            await connection.execute(delete(retired_keys).where(*retired))
        return record_of(row) if row else None

    async def as_of(self, tenant: str, digests: Sequence[Digest], at: float) -> Mapping[Digest, KeyRecord]:
        """Return the records that were current at a time: also those that were replaced since."""
        named = {"tenant": tenant, "digests": [str(digest) for digest in digests]}
        since = named | {"at": datetime.fromtimestamp(at, UTC)}
        async with self._database.read() as connection:
            rows = [
                *(await connection.execute(_CURRENT, named)).mappings(),
                *(await connection.execute(_REPLACED_SINCE, since)).mappings(),  # these take precedence
            ]
        return {record.digest: record for record in map(record_of, rows)}

    async def retired(self, tenant: str, digest: Digest, ciphertext: Digest) -> KeyRecord | None:
        """Return a replaced record by the digest of its ciphertext, or None."""
        query = select(*_RECORD).where(
            retired_keys.c.tenant == tenant,
            retired_keys.c.digest == str(digest),
            retired_keys.c.ciphertext == str(ciphertext),
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return record_of(row) if row else None

    async def damaged(self, tenant: str, digest: Digest) -> bool:
        """Return whether this tenant has a record of the digest whose object is in quarantine."""
        query = select(blob_keys.c.tenant).where(
            blob_keys.c.tenant == tenant, blob_keys.c.digest == str(digest), _is_quarantined()
        )
        async with self._database.read() as connection:
            return (await connection.execute(query)).first() is not None

    async def uses(self, object_name: str) -> int:
        """Count the records of an object, which may be a sidecar."""
        async with self._database.read() as connection:
            counts = [
                (await connection.execute(_count(table, object_name))).scalar_one()
                for table in (blob_keys, retired_keys)
            ]
        return sum(counts)

    async def census(self) -> list[KeyUse]:
        """Count the records by tenant and key-encryption key, ordered by both."""
        by = (blob_keys.c.tenant, blob_keys.c.kek_id)
        query = select(*by, func.count()).group_by(*by).order_by(*by)
        async with self._database.read() as connection:
            return [KeyUse(*row) for row in await connection.execute(query)]

    async def page(self, tenant: str, kek_id: str, after: str, limit: int) -> list[KeyRecord]:
        """Return a tenant's records under one key, ordered by digest, after the digest `after`."""
        query = (
            select(blob_keys)
            .where(blob_keys.c.tenant == tenant, blob_keys.c.kek_id == kek_id, blob_keys.c.digest > after)
            .order_by(blob_keys.c.digest)
            .limit(limit)
        )
        async with self._database.read() as connection:
            return [record_of(row) for row in (await connection.execute(query)).mappings()]

    async def replace(self, changes: Sequence[tuple[KeyRecord, KeyRecord]]) -> int:
        """Replace the wrapped keys of records that are unchanged. Returns their number.

        One transaction, which locks only these rows.
        """
        statement = (
            update(blob_keys)
            .where(
                blob_keys.c.tenant == bindparam("of_tenant"),
                blob_keys.c.digest == bindparam("of_digest"),
                blob_keys.c.file_id == bindparam("of_file_id"),
                blob_keys.c.kek_id == bindparam("old_kek_id"),
                blob_keys.c.wrapped_dek == bindparam("old_wrapped_dek"),
            )
            .values(kek_id=bindparam("new_kek_id"), wrapped_dek=bindparam("new_wrapped_dek"))
        )
        changed = 0
        async with self._database.write() as connection:
            for old, new in changes:
                values = {
                    "of_tenant": old.tenant,
                    "of_digest": str(old.digest),
                    "of_file_id": old.file_id,
                    "old_kek_id": old.kek_id,
                    "old_wrapped_dek": old.wrapped_dek,
                    "new_kek_id": new.kek_id,
                    "new_wrapped_dek": new.wrapped_dek,
                }
                changed += (await connection.execute(statement, values)).rowcount
        return changed


def _add(connection: Connection, record: KeyRecord, replaces: KeyRecord | None, now: datetime) -> None:
    exclude_collection(connection)
    tombstone = select(object_marks.c.object_name).where(
        object_marks.c.object_name.in_(record.objects), object_marks.c.condemned_at.is_not(None)
    )
    if connection.execute(tombstone).first() is not None:
        raise StorageUnavailableError("the object was collected before its key record was stored; try again")
    if replaces is not None and replaces.deliverable:
        _retire(connection, replaces, now)
    connection.execute(
        delete(blob_keys).where(
            blob_keys.c.tenant == record.tenant,
            blob_keys.c.digest == str(record.digest),
            or_(_is_quarantined(), blob_keys.c.object_name == (replaces.object_name if replaces else None)),
        )
    )
    connection.execute(insert(blob_keys).values(values_of(record)))


def _retire(connection: Connection, replaced: KeyRecord, now: datetime) -> None:
    """Keep the row of a replaced record, as it is now, for sessions that began before."""
    row = (
        connection.execute(
            select(blob_keys).where(
                blob_keys.c.tenant == replaced.tenant,
                blob_keys.c.digest == str(replaced.digest),
                blob_keys.c.object_name == replaced.object_name,
            )
        )
        .mappings()
        .first()
    )
    if row is not None:
        connection.execute(insert(retired_keys).values(**row, retired_at=now))


def _first(found: Rows) -> KeyRecord | None:
    row = found.mappings().first()
    return record_of(row) if row else None


def _is_quarantined() -> ColumnElement[bool]:
    return exists().where(quarantine.c.object_name == blob_keys.c.object_name)


def uses_object(table: Table, object_name: str | ColumnElement[str]) -> ColumnElement[bool]:
    """Return the condition that a row of keys refers to an object, as its container or its sidecar."""
    return or_(table.c.object_name == object_name, table.c.sidecar_name == object_name)


def _count(table: Table, object_name: str) -> "Select[int]":
    return select(func.count()).select_from(table).where(uses_object(table, object_name))


def values_of(record: KeyRecord) -> dict[str, Any]:
    """Return a record as a row of `blob_keys`."""
    ciphertext = None if record.ciphertext is None else str(record.ciphertext)
    return asdict(record) | {"digest": str(record.digest), "ciphertext": ciphertext}


def record_of(row: RowMapping) -> KeyRecord:
    """Return a row of `blob_keys` as a value."""
    ciphertext = None if row["ciphertext"] is None else Digest.parse(row["ciphertext"])
    return KeyRecord(**{**row, "digest": Digest.parse(row["digest"]), "ciphertext": ciphertext})


_OF_ANYBODY = (
    select(blob_keys).where(blob_keys.c.digest == bindparam("digest"), not_(_is_quarantined())).limit(1)
)
_OF_ANYBODY_DELIVERABLE = _OF_ANYBODY.where(blob_keys.c.sidecar_name.is_not(None))
_OF_TENANT = _OF_ANYBODY.where(blob_keys.c.tenant == bindparam("tenant"))
_CURRENT = select(blob_keys).where(
    blob_keys.c.tenant == bindparam("tenant"),
    blob_keys.c.digest.in_(bindparam("digests", expanding=True)),
    not_(_is_quarantined()),
)
_REPLACED_SINCE = (
    select(*_RECORD)
    .where(
        retired_keys.c.tenant == bindparam("tenant"),
        retired_keys.c.digest.in_(bindparam("digests", expanding=True)),
        retired_keys.c.retired_at > bindparam("at"),
    )
    .order_by(retired_keys.c.retired_at.desc())
)
