"""The audit trail's hash chain: every change by other means is found, and retention keeps it whole."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Executable, delete, insert, select, update

from auth.audit import AuthEventType
from auth.ports import AuditEvent
from registry.catalog.engine.database import Database
from registry.catalog.event_chain import BATCH, SqlEventChain
from registry.catalog.events import SqlEventLog
from registry.catalog.figures import SqlFigures
from registry.catalog.tables import event_chain, event_hashes, events, upkeep
from registry.catalog.wrapped_secrets import SqlWrappedSecrets
from registry.errors import AuditTrailError
from registry.maintenance.trail import TrailKeeper
from storage.keys.local import LocalKeyring
from storage.upkeep.rewrapping import KeyManager
from tests.support.key_records import MemoryKeyRecords

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
EVENTS = 12


class SettableClock:
    def __init__(self) -> None:
        self.time = BEGIN

    def now(self) -> datetime:
        return self.time


class Trail:
    """A trail with its chain, and the clock of both."""

    def __init__(self, database: Database, keyring: LocalKeyring) -> None:
        self.database, self.keyring, self.clock = database, keyring, SettableClock()
        self.log = SqlEventLog(database, self.clock)
        self.chain = SqlEventChain(database, keyring)
        self.keeper = TrailKeeper(self.chain, SqlFigures(database), self.clock, timedelta(days=90))

    async def fill(self, count: int = EVENTS) -> None:
        for number in range(count):
            detail = {"image": "ünïcode 😀", "size": 2**60, "ratio": 0.1, "list": [None, True, "\u2028"]}
            await self.log.record(
                AuditEvent(AuthEventType.TOKEN_MINTED, "acme", f"t{number}", source="::1", detail=detail)
            )

    async def execute(self, statement: Executable) -> None:
        async with self.database.write() as connection:
            await connection.execute(statement)

    async def problem(self) -> str:
        """Check with a fresh reader, as the doctor does."""
        try:
            return (await SqlEventChain(self.database, self.keyring).verify()).problem
        except AuditTrailError as error:
            return str(error)


@pytest.fixture
def trail(database: Database, tmp_path: Path) -> Trail:
    return Trail(database, LocalKeyring.create(tmp_path / "keyring.json"))


async def test_an_unchanged_trail_verifies_and_its_newest_records_wait(trail: Trail) -> None:
    assert (await trail.chain.verify()).records == 0
    await trail.fill()
    assert (await trail.chain.verify()).unchained == EVENTS
    await trail.keeper.extend()
    await trail.fill(3)
    report = await SqlEventChain(trail.database, trail.keyring).verify()
    assert (report.records, report.unchained, report.problem) == (EVENTS, 3, "")


@pytest.mark.parametrize(
    "statement",
    [
        update(events).where(events.c.cursor == 5).values(organization="rival"),
        update(events).where(events.c.cursor == 5).values(at=BEGIN + timedelta(microseconds=1)),
        update(events).where(events.c.cursor == 5).values(detail={}),
        update(events).where(events.c.cursor == 5).values(token_id=None),
        update(events).where(events.c.cursor == 5).values(type="token.revoked"),
        update(events).where(events.c.cursor == EVENTS).values(source="192.0.2.1"),
        update(events).where(events.c.cursor == 5).values(cursor=50_000),
        update(event_hashes).where(event_hashes.c.cursor == 5).values(hash=bytes(32)),
        delete(event_hashes).where(event_hashes.c.cursor == 5),
        delete(event_hashes),
        delete(events).where(events.c.cursor == 1),
        delete(events).where(events.c.cursor == 5),
        delete(events).where(events.c.cursor == EVENTS),
        delete(events),
        update(event_chain).values(head=5),
        update(event_chain).values(anchor=1),
        update(event_chain).values(mac=None),
        delete(event_chain),
        update(event_chain).values(wrapped_key=None),
        update(event_chain).values(wrapped_key=bytes(60)),
    ],
    ids=lambda statement: " ".join(str(statement).split())[:60],
)
async def test_every_change_by_other_means_is_found(trail: Trail, statement: Executable) -> None:
    await trail.fill()
    await trail.keeper.extend()
    await trail.execute(statement)
    assert await trail.problem() != ""


async def test_a_whole_suffix_with_its_hashes_cannot_be_removed(trail: Trail) -> None:
    await trail.fill()
    await trail.keeper.extend()
    for table in (events, event_hashes):
        await trail.execute(delete(table).where(table.c.cursor > 5))
    assert "removed" in await trail.problem()
    await trail.execute(update(event_chain).values(head=5, head_hash=bytes(32)))
    assert "state" in await trail.problem()


async def test_a_removed_prefix_needs_the_key(trail: Trail) -> None:
    await trail.fill()
    await trail.keeper.extend()
    async with trail.database.read() as connection:
        fifth = (
            await connection.execute(select(event_hashes.c.hash).where(event_hashes.c.cursor == 5))
        ).scalar()
    for table in (events, event_hashes):
        await trail.execute(delete(table).where(table.c.cursor <= 5))
    await trail.execute(update(event_chain).values(anchor=5, anchor_hash=fifth))
    assert "state" in await trail.problem()


async def test_retention_removes_old_records_and_the_chain_stays_whole(trail: Trail) -> None:
    await trail.fill()
    trail.clock.time += timedelta(days=80)
    await trail.fill(4)
    await trail.keeper.extend()
    trail.clock.time += timedelta(days=11)
    assert await trail.keeper.prune() == 0  # webhooks have not read them
    await trail.execute(insert(upkeep).values(name="webhooks", cursor="14", report={}))
    assert await trail.keeper.prune() == EVENTS
    await trail.keeper.extend()
    report = await trail.chain.verify()
    assert (report.problem, report.records, report.state.anchor) == ("", 5, EVENTS)
    newest = (await trail.log.page(after=16))[-1]
    assert (newest.type, newest.detail) == ("audit.pruned", {"records": EVENTS, "last_cursor": EVENTS})
    late = insert(events).values(cursor=3, at=BEGIN, type="token.minted", detail={})
    await trail.execute(late)
    assert "record 3 was changed or added" in await trail.problem()


async def test_many_writers_keepers_and_checks_at_once(trail: Trail) -> None:
    await trail.execute(insert(upkeep).values(name="webhooks", cursor="1000000", report={}))
    logs = [SqlEventLog(trail.database, trail.clock) for _ in range(4)]
    keepers = [
        TrailKeeper(
            SqlEventChain(trail.database, trail.keyring),
            SqlFigures(trail.database),
            trail.clock,
            timedelta(days=90),
        )
        for _ in range(3)
    ]

    async def write(log: SqlEventLog) -> None:
        for number in range(200):
            await log.record(AuditEvent(AuthEventType.TOKEN_MINTED, token_id=str(number)))
            trail.clock.time += timedelta(hours=4)

    async def keep(keeper: TrailKeeper) -> None:
        while not writing.done():
            await keeper.extend()
            await keeper.prune()

    async def check() -> int:
        checks = 0
        while not writing.done():
            assert await trail.problem() == ""
            checks += 1
        return checks

    writing = asyncio.ensure_future(asyncio.gather(*map(write, logs)))
    checking = asyncio.create_task(check())
    await asyncio.gather(*map(keep, keepers), writing)
    await trail.keeper.extend()
    report = await trail.chain.verify()
    assert (report.problem, report.unchained) == ("", 0)
    assert report.state.anchor > 0
    assert await checking > 3


async def test_rewrapping_covers_the_key_of_the_chain(trail: Trail) -> None:
    await trail.fill()
    await trail.keeper.extend()
    manager = KeyManager(trail.keyring, MemoryKeyRecords(), SqlWrappedSecrets(trail.database))
    await manager.rotate()
    assert (await manager.rewrap()).changed == 1
    await trail.fill()
    await trail.keeper.extend()
    assert (await trail.chain.verify()).records == 2 * EVENTS


async def test_more_records_than_a_batch_are_chained_in_order(trail: Trail) -> None:
    await asyncio.gather(
        *(
            trail.log.record(AuditEvent(AuthEventType.TOKEN_MINTED, token_id=str(number)))
            for number in range(2 * BATCH + 7)
        )
    )
    await trail.keeper.extend()
    assert (await trail.chain.verify()).records == 2 * BATCH + 7
