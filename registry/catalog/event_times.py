"""Search for the events of a time, without an index on the time, which would cost each redemption a write."""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, select

from registry.catalog.engine.database import Database
from registry.catalog.tables import events

DISORDER: Final = timedelta(hours=1)
"""How much later than at its time an event may be appended to the trail, by the ledger."""

_SAMPLES: Final = 64
_NEAR: Final = 1000


async def cursors_around(database: Database, time: datetime) -> tuple[int, int]:
    """Return the cursors of an event before a time and of one after it, at most some `_NEAR` events apart.

    Cursors and times increase together, except for `DISORDER`. A few samples therefore find the place. The
    first or the next cursor stands for an event that does not exist.
    """
    async with database.read() as connection:
        # SQLite reads one of two aggregates of a query from the end of the table, but not both.
        ends = [select(end(events.c.cursor)).scalar_subquery() for end in (func.min, func.max)]
        first, last = (await connection.execute(select(*ends))).one()
        low, high = first or 0, (last or 0) + 1
        while high - low > _NEAR:
            sampled = range(low + 1, high, (high - low) // _SAMPLES)
            query = select(events.c.cursor, events.c.at).where(events.c.cursor.in_(sampled))
            found = (await connection.execute(query)).all()
            before = max((cursor for cursor, at in found if at < time), default=low)
            after = min((cursor for cursor, at in found if at >= time and cursor > before), default=high)
            if (before, after) == (low, high):
                break  # removed events have left gaps
            low, high = before, after
    return low, high
