"""Events of groups and instances, for the logs of their owners."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import and_, or_, select

from registry.audit.trail import StoredEvent
from registry.catalog.engine.database import Database
from registry.catalog.events import read_event
from registry.catalog.tables import events
from registry.model.group_logs import LogPosition


class SqlGroupLogs:
    """The events of groups and instances in the table `events`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def newest(self, group_id: str, limit: int) -> Sequence[StoredEvent]:
        """Return the newest events of a group, newest first."""
        query = select(events).where(events.c.group_id == group_id).order_by(events.c.cursor.desc())
        async with self._database.read() as connection:
            return [read_event(row) for row in (await connection.execute(query.limit(limit))).mappings()]

    async def between(
        self,
        organization: str,
        start: datetime,
        end: datetime,
        *,
        ascending: bool,
        after: LogPosition | None = None,
        limit: int,
    ) -> Sequence[StoredEvent]:
        """Return an organization's events in the order of their time.

        Args:
            start: Earliest time.
            end: The time before which the events happened.
            after: Position of the last event already read.
        """
        query = select(events).where(
            events.c.organization == organization,
            events.c.group_id.is_not(None),
            events.c.at >= start,
            events.c.at < end,
        )
        at, cursor = events.c.at, events.c.cursor
        if after is not None:
            beyond = at > after.at if ascending else at < after.at
            further = cursor > after.cursor if ascending else cursor < after.cursor
            query = query.where(or_(beyond, and_(at == after.at, further)))
        order = (at, cursor) if ascending else (at.desc(), cursor.desc())
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(*order).limit(limit))
            return [read_event(row) for row in rows.mappings()]
