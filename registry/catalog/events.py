"""The audit trail (keeps `auth.ports.AuditTrail` and `registry.ports.EventLog`)."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import RowMapping, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.ports import AuditEvent, Clock
from registry.catalog.database import Database
from registry.catalog.tables import events
from registry.ports import StoredEvent


async def append(connection: AsyncConnection, at: datetime, event: AuditEvent) -> None:
    """Insert an event within a transaction, so that it stands exactly when the change stands."""
    await connection.execute(
        insert(events).values(
            at=at,
            type=event.type,
            organization=event.organization,
            token_id=event.token_id,
            node_id=event.node_id,
            cause=event.cause,
            source=event.source,
            detail=dict(event.detail),
        )
    )


class SqlEventLog:
    """The table `events`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def record(self, event: AuditEvent) -> None:
        """Append one event durably."""
        async with self._database.write() as connection:
            await append(connection, self._clock.now(), event)

    async def page(
        self,
        *,
        after: int = 0,
        limit: int = 100,
        type_: str | None = None,
        organization: str | None = None,
        token_id: str | None = None,
    ) -> Sequence[StoredEvent]:
        """Return events behind a cursor, oldest first."""
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


def _stored(row: RowMapping) -> StoredEvent:
    facts = dict(row)
    return StoredEvent(facts.pop("cursor"), facts.pop("at"), AuditEvent(**facts))
