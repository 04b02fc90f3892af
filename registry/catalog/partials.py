"""Unfinished containers (implements `storage.records.Partials`)."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog
from sqlalchemy import ColumnElement, and_, delete, exists, insert, not_, or_, select

from auth.ports import Clock
from registry.catalog.engine.database import CatalogConnection, Database
from registry.catalog.key_records import values_of
from registry.catalog.tables import blob_pins, jobs, partials
from registry.errors import CatalogUnavailableError
from storage.digest import Digest
from storage.records import KeyRecord

MAX_AGE = timedelta(hours=24)

_UNFINISHED = ("queued", "running")
_log = structlog.get_logger(__name__)


class SqlPartials:
    """The table `partials`: one row for each tenant and digest."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def get(self, tenant: str, digest: Digest) -> KeyRecord | None:
        """Return a tenant's unfinished container of a digest."""
        query = select(partials).where(partials.c.tenant == tenant, partials.c.digest == str(digest))
        try:
            async with self._database.read() as connection:
                row = (await connection.execute(query)).mappings().first()
        except CatalogUnavailableError:
            return None
        if row is None:
            return None
        facts = {name: value for name, value in row.items() if name != "begun_at"}
        return KeyRecord(**facts | {"digest": digest, "stored_bytes": 0})

    async def put(self, record: KeyRecord) -> None:
        """Record a started container. Replaces an earlier one."""
        values = values_of(record) | {"begun_at": self._clock.now()}
        del values["stored_bytes"], values["ciphertext"]  # known when it is finished
        async with self._attempt() as connection:
            await connection.execute(
                delete(partials).where(
                    partials.c.tenant == record.tenant, partials.c.digest == str(record.digest)
                )
            )
            await connection.execute(insert(partials).values(values))

    async def drop(self, record: KeyRecord) -> None:
        """Delete the record of a container that is finished or abandoned."""
        async with self._attempt() as connection:
            await connection.execute(delete(partials).where(partials.c.object_name == record.object_name))

    async def wanted(self) -> Collection[str]:
        """Delete records that are too old or that no import needs. Returns the other object names."""
        too_old = partials.c.begun_at < self._clock.now() - MAX_AGE
        async with self._database.write() as connection:
            await connection.execute(delete(partials).where(or_(too_old, not_(_is_needed()))))
            return set((await connection.execute(select(partials.c.object_name))).scalars())

    @asynccontextmanager
    async def _attempt(self) -> AsyncIterator[CatalogConnection]:
        try:
            async with self._database.write() as connection:
                yield connection
        except CatalogUnavailableError:
            _log.warning("partial.not_noted")


def _is_needed() -> ColumnElement[bool]:
    of_jobs = blob_pins.join(jobs, jobs.c.id == blob_pins.c.job_id)
    same = and_(blob_pins.c.organization == partials.c.tenant, blob_pins.c.digest == partials.c.digest)
    unfinished = select(1).select_from(of_jobs).where(same, jobs.c.state.in_(_UNFINISHED))
    return exists(unfinished.correlate(partials))
