"""Leases and cursors of maintenance tasks, each run by one process at a time (the table `upkeep`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from auth.ports import AuditEvent, Clock
from registry.catalog.engine.database import Database
from registry.catalog.events import append
from registry.catalog.tables import upkeep


@dataclass(frozen=True, slots=True)
class WorkState:
    """State of a maintenance task.

    Attributes:
        cursor: Position in the task; empty at its start.
        finished_at: Time of its last completion; None if it was never completed.
        report: Report of its last completion.
    """

    cursor: str = ""
    finished_at: datetime | None = None
    report: Mapping[str, Any] | None = None


class SqlUpkeep:
    """The table `upkeep`: one row for each maintenance task."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def state(self, name: str) -> WorkState:
        """Return the state of a task."""
        query = select(upkeep.c.cursor, upkeep.c.finished_at, upkeep.c.report).where(upkeep.c.name == name)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return WorkState(*row) if row else WorkState()

    async def acquire(self, name: str, holder: str, lease_s: float) -> bool:
        """Lease a task, or extend the holder's lease. Returns False if another process has the lease."""
        now = self._clock.now()
        free = or_(upkeep.c.holder.is_(None), upkeep.c.holder == holder, upkeep.c.lease_until < now)
        lease = {"holder": holder, "lease_until": now + timedelta(seconds=lease_s)}
        try:
            async with self._database.write() as connection:
                known = await connection.execute(select(upkeep.c.name).where(upkeep.c.name == name))
                if known.first() is None:
                    await connection.execute(insert(upkeep).values(name=name, cursor="", report={}, **lease))
                    return True
                taken = update(upkeep).where(and_(upkeep.c.name == name, free)).values(lease)
                return (await connection.execute(taken)).rowcount == 1
        except IntegrityError:
            return False  # another process created the row at the same moment

    async def advance(self, name: str, holder: str, cursor: str) -> None:
        """Store the task's cursor, if the caller still has the lease."""
        await self._set(name, holder, {"cursor": cursor})

    async def finish(self, name: str, holder: str, report: Mapping[str, Any], *recorded: AuditEvent) -> None:
        """Record the task's completion, with the events, if the caller still has the lease."""
        ended = {"cursor": "", "finished_at": self._clock.now(), "report": dict(report)}
        await self._set(name, holder, ended, *recorded)

    async def release(self, name: str, holder: str) -> None:
        """Release the lease."""
        await self._set(name, holder, {"holder": None, "lease_until": None})

    async def _set(self, name: str, holder: str, values: Mapping[str, Any], *recorded: AuditEvent) -> None:
        ours = and_(upkeep.c.name == name, upkeep.c.holder == holder)
        async with self._database.write() as connection:
            if (await connection.execute(update(upkeep).where(ours).values(values))).rowcount:
                await append(connection, self._clock.now(), *recorded)
