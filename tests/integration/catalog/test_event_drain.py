"""Events of redemptions, from the ledger to the catalog: none is lost, none is there twice."""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis

from auth.audit import AuthEventType
from auth.errors import LedgerUnavailableError
from auth.ledger import EventStream, LedgerEvent, LedgerLimits, RedisTokenLedger, connect
from auth.ports import AuditEvent
from auth.records import TokenState
from registry.audit.drain import EventDrain
from registry.audit.trail import StoredEvent
from registry.catalog.engine.database import Database, SystemClock
from registry.catalog.events import SqlEventLog
from registry.errors import CatalogUnavailableError
from tests.support.ledgers import new_token, some_id
from tests.support.processes import run
from tests.support.redis_server import RedisServer, running_server, server_programs
from tests.support.replicated_redis import Cluster, running

EVENT = AuditEvent(
    AuthEventType.TOKEN_MINTED, "acme", "token-1", "node-1", source="192.0.2.7", detail={"é": "\0"}
)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with running_server(next(iter(server_programs().values()))) as server:
        yield server


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Redis]:
    redis = connect(server.url)
    assert isinstance(redis, Redis)
    yield redis
    await redis.aclose()


@pytest.fixture
def ledger(redis: Redis) -> RedisTokenLedger:
    return RedisTokenLedger(redis)


@pytest.fixture
def log(database: Database) -> SqlEventLog:
    return SqlEventLog(database, SystemClock())


@pytest.fixture
def counted() -> list[str]:
    return []


@pytest.fixture
def drain(redis: Redis, log: SqlEventLog, counted: list[str]) -> EventDrain:
    return EventDrain(EventStream(redis), log.store, lambda event: counted.append(event.type))


async def redeem(ledger: RedisTokenLedger, count: int) -> list[str]:
    """Redeem tokens, and return their ids."""
    tokens = [new_token() for _ in range(count)]
    for token in tokens:
        await ledger.mint(token)
        event = replace(EVENT, token_id=token.token_id)
        await ledger.redeem(token.token_id, "node-1", some_id(), event=event)
    return [token.token_id for token in tokens]


async def stored(log: SqlEventLog) -> list[StoredEvent]:
    return list(await log.page(limit=10_000))


async def token_ids(log: SqlEventLog) -> list[str | None]:
    return [each.token_id for each in await stored(log)]


async def test_events_arrive_in_order_as_they_were_said(
    ledger: RedisTokenLedger, log: SqlEventLog, drain: EventDrain, redis: Redis, counted: list[str]
) -> None:
    token, sessions = new_token(), [some_id() for _ in range(3)]
    await ledger.mint(token)
    for session_id in sessions:
        for _ in range(2):  # the answer was lost
            await ledger.redeem(token.token_id, "node-1", session_id, event=EVENT)
    await drain.drain("pte")
    await drain.drain("pte")
    found = await stored(log)
    types = ["token.redeemed", "token.exchanged", "token.exchanged"]
    assert [each.type for each in found] == types
    assert {(each.token_id, each.node_id, each.source) for each in found} == {
        (EVENT.token_id, EVENT.node_id, EVENT.source)
    }
    assert all(each.detail == EVENT.detail for each in found)
    assert all(datetime.now(UTC) - each.at < timedelta(minutes=1) for each in found)
    assert counted.count("token.redeemed") == 1
    assert await redis.xlen("pte") == 0


async def test_more_than_a_batch_is_moved_in_order(
    ledger: RedisTokenLedger, log: SqlEventLog, drain: EventDrain
) -> None:
    redeemed = await redeem(ledger, 620)
    await drain.drain("pte")
    assert await token_ids(log) == redeemed


async def test_several_drains_at_once_store_each_event_once(
    ledger: RedisTokenLedger, log: SqlEventLog, redis: Redis
) -> None:
    drains = [EventDrain(EventStream(redis), log.store, lambda _: None) for _ in range(4)]
    redeemed = await redeem(ledger, 400)
    await asyncio.gather(*(each.drain("pte") for each in drains))
    assert sorted(await token_ids(log)) == sorted(redeemed)  # type: ignore[type-var]


async def test_one_process_at_a_time_drains_and_another_takes_over(redis: Redis) -> None:
    first, second = EventStream(redis), EventStream(redis)
    assert await first.hold("a")
    assert not await second.hold("b")
    assert await first.hold("a")
    await redis.delete("pte:drainer")  # as when it lapses
    assert await second.hold("b")
    assert 0 < await redis.pttl("pte:drainer") <= 3000


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)  # which the child can open as well
@pytest.mark.parametrize("moment", ["before", "after", "removed"])
async def test_a_drain_that_is_killed_loses_and_doubles_nothing(
    server: RedisServer,
    ledger: RedisTokenLedger,
    log: SqlEventLog,
    tmp_path: Path,
    moment: str,
) -> None:
    redeemed = await redeem(ledger, 300)
    url = f"sqlite:///{tmp_path / 'catalog.db'}"
    argv = [sys.executable, "-m", "tests.support.drain_and_die", server.url, url, moment]
    killed = await asyncio.to_thread(run, argv)
    assert killed.returncode == -signal.SIGKILL, killed.output
    redeemed += await redeem(ledger, 5)
    client = connect(server.url)
    await EventDrain(EventStream(client), log.store, lambda _: None).drain("pte")
    await client.aclose()
    assert await token_ids(log) == redeemed


async def test_an_entry_is_removed_only_for_the_event_that_it_holds(
    ledger: RedisTokenLedger, redis: Redis
) -> None:
    await redeem(ledger, 1)
    stream = EventStream(redis)
    (entry,) = await stream.next("pte", (), 10)
    after_a_failover = replace(entry, event_id=some_id())
    assert await stream.next("pte", [after_a_failover], 10) == [entry]
    assert await stream.next("pte", [entry], 10) == []


async def test_too_many_waiting_events_stop_redemptions_until_they_are_drained(
    redis: Redis, drain: EventDrain
) -> None:
    ledger = RedisTokenLedger(redis, LedgerLimits(backlog=3))
    open_, *_ = await redeem(ledger, 3)
    token = new_token()
    await ledger.mint(token)
    for token_id in (token.token_id, open_):
        with pytest.raises(LedgerUnavailableError, match="catalog"):
            await ledger.redeem(token_id, "node-1", some_id(), event=EVENT)
    assert (await ledger.show(token.token_id)).state is TokenState.MINTED
    await drain.drain("pte")
    assert (await ledger.redeem(token.token_id, "node-1", some_id(), event=EVENT)).opened


async def test_a_drain_outlives_its_databases_and_finishes_when_it_is_stopped(
    ledger: RedisTokenLedger, log: SqlEventLog, redis: Redis, server: RedisServer
) -> None:
    failures, tried, done = 2, asyncio.Event(), asyncio.Event()

    async def store(events: Sequence[LedgerEvent]) -> None:
        nonlocal failures
        tried.set()
        if failures:
            failures -= 1
            raise CatalogUnavailableError("no")
        await log.store(events)
        done.set()

    redeemed = await redeem(ledger, 3)
    running_drain = asyncio.create_task(EventDrain(EventStream(redis), store, lambda _: None).run())
    async with asyncio.timeout(20):
        await tried.wait()
        server.kill()
        server.start()
        await done.wait()
    assert await token_ids(log) == redeemed
    redeemed += await redeem(ledger, 3)
    running_drain.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running_drain
    assert await token_ids(log) == redeemed


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_the_streams_of_a_cluster_are_drained(log: SqlEventLog) -> None:
    with running(Cluster) as cluster:
        client = connect(cluster.url)
        redeemed = await redeem(RedisTokenLedger(client, replicated=True), 200)
        drain = EventDrain(EventStream(client), log.store, lambda _: None)
        for name in EventStream(client).names:
            await drain.drain(name)
        assert Counter(await token_ids(log)) == Counter(redeemed)
        await client.aclose()
