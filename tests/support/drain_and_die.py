"""Drains the ledger's events into a catalog, and kills itself at a chosen moment.

    python -m tests.support.drain_and_die REDIS_URL DATABASE_URL MOMENT

MOMENT: `before` or `after` a batch is stored, or `removed` from the ledger as well.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from auth.ledger import EventStream, LedgerEvent, connect
from auth.ports import AuditEvent
from registry.audit.drain import EventDrain
from registry.catalog.engine.database import Database, SystemClock
from registry.catalog.events import SqlEventLog


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def main(redis_url: str, database_url: str, moment: str) -> None:
    log = SqlEventLog(Database(database_url), SystemClock())

    async def store(events: Sequence[LedgerEvent]) -> None:
        if moment == "before":
            die()
        await log.store(events)
        if moment == "after":
            die()

    def count(event: AuditEvent) -> None:
        del event
        die()

    await EventDrain(EventStream(connect(redis_url)), store, count).drain("pte")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
