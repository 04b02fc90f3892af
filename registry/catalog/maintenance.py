"""Leases and cursors of work that one process at a time does for all (the table `upkeep`)."""

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
    """What is known of a kind of work.

    Attributes:
        cursor: How far it is; empty at its start.
        finished_at: When it last came to its end; None when it never did.
        report: What it said then.
    """

    cursor: str = ""
    finished_at: datetime | None = None
    report: Mapping[str, Any] | None = None


class SqlUpkeep:
    """One row for each kind of work."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def standing(self, name: str) -> WorkState:
        """Return what is known of a kind of work."""
        query = select(upkeep.c.cursor, upkeep.c.finished_at, upkeep.c.report).where(upkeep.c.name == name)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return WorkState(*row) if row else WorkState()

    async def acquire(self, name: str, holder: str, lease_s: float) -> bool:
        """Lease a kind of work, or extend one's own lease; False while another holds it."""
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
            return False  # another made the row at the same moment

    async def advance(self, name: str, holder: str, cursor: str) -> None:
        """Note how far the work is, while the lease is ours."""
        await self._set(name, holder, {"cursor": cursor})

    async def finish(self, name: str, holder: str, report: Mapping[str, Any], *recorded: AuditEvent) -> None:
        """Note the end of the work, with the events, while the lease is ours."""
        ended = {"cursor": "", "finished_at": self._clock.now(), "report": dict(report)}
        await self._set(name, holder, ended, *recorded)

    async def release(self, name: str, holder: str) -> None:
        """Give the lease back."""
        await self._set(name, holder, {"holder": None, "lease_until": None})

    async def _set(self, name: str, holder: str, values: Mapping[str, Any], *recorded: AuditEvent) -> None:
        ours = and_(upkeep.c.name == name, upkeep.c.holder == holder)
        async with self._database.write() as connection:
            if (await connection.execute(update(upkeep).where(ours).values(values))).rowcount:
                await append(connection, self._clock.now(), *recorded)
