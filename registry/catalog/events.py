"""The audit trail (implements `auth.ports.AuditTrail`)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, RowMapping, func, insert, select, text

from auth.coalescer import Coalescer
from auth.ports import AuditEvent, Clock
from registry.audit.trail import StoredEvent
from registry.catalog.engine.database import AdvisoryLock, CatalogConnection, Database
from registry.catalog.engine.plain import PlainInsert
from registry.catalog.tables import events

_LOCK = text("SELECT pg_advisory_xact_lock(:key)")
_AT_ONCE = PlainInsert(events)


async def append(connection: CatalogConnection, at: datetime, *recorded: AuditEvent) -> None:
    """Insert events within a transaction, so that they are visible exactly if its change is.

    The last statement of its transaction: on PostgreSQL it waits for others that append
    (docs/adr/0017-audit-trail-order.md), and must not make them wait for rows that they need.
    """
    rows = [_values(at, event) for event in recorded]
    if rows:
        await connection.run_sync(partial(_append_all, rows=rows))


def _append_all(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    if connection.dialect.name != "sqlite":  # where a transaction excludes all other writers anyway
        connection.execute(_LOCK, {"key": AdvisoryLock.APPEND})
    connection.execute(insert(events), rows)


class SqlEventLog:
    """The table `events`. Cursors rise in the order in which events become visible."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._appends: Coalescer[tuple[datetime, AuditEvent], None] = Coalescer(self._append)

    async def record(self, event: AuditEvent) -> None:
        """Append one event durably; events of one moment share a transaction."""
        await self._appends.do((self._clock.now(), event))

    async def page(
        self,
        *,
        after: int = 0,
        limit: int = 100,
        type_: str | None = None,
        organization: str | None = None,
        token_id: str | None = None,
    ) -> Sequence[StoredEvent]:
        """Return events behind a cursor, oldest first; none can appear later between those returned."""
        query = select(events).where(events.c.cursor > after).order_by(events.c.cursor).limit(limit)
        for column, value in (
            (events.c.type, type_),
            (events.c.organization, organization),
            (events.c.token_id, token_id),
        ):
            if value is not None:
                query = query.where(column == value)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [_stored(row) for row in rows]

    async def latest(self) -> int:
        """Return the newest event's cursor; 0 when there is none."""
        async with self._database.read() as connection:
            return (await connection.execute(select(func.max(events.c.cursor)))).scalar() or 0

    async def aclose(self) -> None:
        """Wait until everything is appended."""
        await self._appends.aclose()

    async def _append(self, batch: Sequence[tuple[datetime, AuditEvent]]) -> Sequence[None]:
        rows = [_values(at, event) for at, event in batch]
        if self._database.is_sqlite:
            await self._database.insert(_AT_ONCE, rows)
        else:
            await self._database.transact(partial(_append_all, rows=rows))
        return [None] * len(batch)


def _values(at: datetime, event: AuditEvent) -> dict[str, Any]:
    return {
        "at": at,
        "type": event.type,
        "organization": event.organization,
        "token_id": event.token_id,
        "node_id": event.node_id,
        "cause": event.cause,
        "source": event.source,
        "detail": dict(event.detail),
    }


def _stored(row: RowMapping) -> StoredEvent:
    return StoredEvent(**row)
