"""Daily figures on both databases: counted once with their events, and removed after their retention."""

import asyncio
from datetime import UTC, date, datetime, timedelta

from auth.audit import AuthEventType
from auth.ledger.stream import LedgerEvent
from auth.ports import AuditEvent
from registry.catalog.engine.database import Database, SystemClock
from registry.catalog.events import SqlEventLog
from registry.catalog.figures import SqlFigures
from registry.model.figures import NODE_RETENTION_DAYS, RETENTION_DAYS, Figure, FigureKey, FigureKind

TODAY = datetime.now(UTC).date()
REDEEMED = AuditEvent(AuthEventType.TOKEN_REDEEMED, "acme", token_id="t1", node_id="pc-7")


def refused(organization: str | None, cause: str) -> AuditEvent:
    return AuditEvent(AuthEventType.TOKEN_REFUSED, organization, cause=cause)


async def test_events_are_counted_with_their_transaction(database: Database) -> None:
    log, figures = SqlEventLog(database, SystemClock()), SqlFigures(database)
    await asyncio.gather(
        *(log.record(REDEEMED) for _ in range(5)),
        *(log.record(refused("acme", "replayed")) for _ in range(3)),
        log.record(refused("bolt", "expired")),
        log.record(refused(None, "forged")),
    )
    assert await figures.by_day(FigureKind.REDEEMED, TODAY, organization="acme") == {TODAY: 5}
    assert await figures.by_day(FigureKind.REDEEMED, TODAY, organization="bolt") == {}
    assert await figures.by_label(FigureKind.REFUSED, TODAY) == [
        Figure("replayed", 3),
        Figure("expired", 1),
        Figure("forged", 1),
    ]
    assert await figures.by_label(FigureKind.REFUSED, TODAY, organization="acme") == [Figure("replayed", 3)]


async def test_an_event_of_the_ledger_that_comes_again_is_counted_once(database: Database) -> None:
    log, figures = SqlEventLog(database, SystemClock()), SqlFigures(database)
    at = datetime.now(UTC)
    first, second, third = (LedgerEvent(f"{number}-0", str(number), at, REDEEMED) for number in range(3))
    await log.store([first, second])
    await log.store([second, third])
    assert await figures.by_day(FigureKind.REDEEMED, at.date()) == {at.date(): 3}


async def test_bytes_are_added_and_ranked(database: Database) -> None:
    figures, yesterday = SqlFigures(database), TODAY - timedelta(days=1)
    assert await figures.first_day() is None

    def sent(day: date, organization: str, group: str) -> FigureKey:
        return FigureKey(day, organization, FigureKind.EGRESS, group)

    big = 1 << 60
    for _ in range(2):
        await figures.add({sent(TODAY, "acme", "a"): 5, sent(yesterday, "acme", "b"): big})
    await figures.add({sent(TODAY, "bolt", "c"): 7})
    assert await figures.by_day(FigureKind.EGRESS, yesterday, organization="acme") == {
        TODAY: 10,
        yesterday: 2 * big,
    }
    assert await figures.first_day() == yesterday
    assert await figures.by_day(FigureKind.EGRESS, TODAY, label="a") == {TODAY: 10}
    found = await figures.by_organization(FigureKind.EGRESS, yesterday, limit=9)
    assert found == [Figure("acme", 2 * big + 10), Figure("bolt", 7)]
    assert await figures.by_label(FigureKind.EGRESS, yesterday, limit=1) == [Figure("b", 2 * big)]


async def test_figures_of_nodes_are_removed_before_the_others(database: Database) -> None:
    figures = SqlFigures(database)
    for kind in (FigureKind.EGRESS, FigureKind.EGRESS_NODE):
        for age in (0, NODE_RETENTION_DAYS, NODE_RETENTION_DAYS + 1, RETENTION_DAYS, RETENTION_DAYS + 1):
            await figures.add({FigureKey(TODAY - timedelta(days=age), "acme", kind, "x"): 1})
    await figures.prune(TODAY)
    long_ago = TODAY - timedelta(days=1000)
    assert len(await figures.by_day(FigureKind.EGRESS, long_ago)) == 4
    assert len(await figures.by_day(FigureKind.EGRESS_NODE, long_ago)) == 2
