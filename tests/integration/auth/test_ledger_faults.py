"""The ledger's server dies, stalls, fills up or forgets: nothing is granted, and work goes on afterwards."""

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from auth.errors import LedgerUnavailableError, MintRefusedError, RefusedError
from auth.ledger import RedisTokenLedger, connect
from auth.records import Redemption, TokenState
from auth.signing_keys import LocalSigningKeys
from tests.support.authorities import REPOSITORY, AuthStack
from tests.support.ledgers import LAYER, new_token, some_id
from tests.support.redis_server import RedisServer, running_server

PAUSE_S = float(os.environ.get("CRISPER_TEST_PAUSE_S", "2"))


@pytest.fixture
def server(program: Path) -> Iterator[RedisServer]:
    with running_server(program) as server:
        yield server


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Redis]:
    redis = connect(server.url, socket_timeout_s=0.3)
    assert isinstance(redis, Redis)
    yield redis
    await redis.aclose()


@pytest.fixture
def ledger(redis: Redis) -> RedisTokenLedger:
    return RedisTokenLedger(redis, timeout_s=1.5)


async def test_a_flushed_script_cache_is_filled_again(ledger: RedisTokenLedger, redis: Redis) -> None:
    token = new_token()
    await ledger.mint(token)
    await redis.script_flush()
    assert (await ledger.redeem(token.token_id, "node-1", "sid-1")).opened
    await redis.script_flush()
    await ledger.begin(token.token_id, "sid-1", "r", blob=LAYER, length_bytes=900)
    await redis.script_flush()
    assert await ledger.end(token.token_id, TokenState.REVOKED) is TokenState.ACTIVE


async def test_calls_that_go_together_fail_each_for_itself(ledger: RedisTokenLedger, redis: Redis) -> None:
    good, spent = new_token(), new_token()
    for token in (good, spent):
        await ledger.mint(token)
    await ledger.end(spent.token_id, TokenState.REVOKED)
    await redis.script_flush()
    outcomes = await asyncio.gather(
        ledger.redeem(spent.token_id, "node-1", "sid-1"),
        ledger.redeem(some_id(), "node-1", "sid-2"),
        ledger.redeem(good.token_id, "\ud800", "sid-3"),
        ledger.redeem(good.token_id, "node-1", "sid-4"),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes[:3]] == [RefusedError, RefusedError, UnicodeEncodeError]
    assert getattr(outcomes[3], "opened", False)


async def test_a_connection_that_the_system_gives_up_is_reopened(
    server: RedisServer, ledger: RedisTokenLedger, redis: Redis
) -> None:
    tokens = [new_token() for _ in range(4)]
    for token in tokens:
        await ledger.mint(token)
    (connection,) = redis.connection_pool._in_use_connections
    reader = connection._reader
    assert reader is not None
    server.pause()
    asked = [
        asyncio.create_task(ledger.redeem(token.token_id, f"node-{n}", f"sid-{n}"))
        for n, token in enumerate(tokens)
    ]
    await asyncio.sleep(0.1)
    # As its transport does when TCP's own time-out is over.
    reader.set_exception(OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))
    await asyncio.sleep(0.05)
    server.resume()
    found = await asyncio.gather(*asked, return_exceptions=True)
    # Every token is node-1's: nobody has the answer to somebody else's call.
    assert [type(outcome) for outcome in found] == [RefusedError, Redemption, RefusedError, RefusedError]
    assert connection._reader is not reader


async def test_an_answer_that_nobody_waits_for_is_not_the_next_calls(
    ledger: RedisTokenLedger, redis: Redis
) -> None:
    first, second = new_token(), new_token()
    for token in (first, second):
        await ledger.mint(token)
    assert (await ledger.redeem(first.token_id, "node-1", "sid-1")).opened
    (connection,) = redis.connection_pool._in_use_connections
    await connection.send_command("ECHO", "not asked for")
    await asyncio.sleep(0.1)
    assert (await ledger.redeem(second.token_id, "node-1", "sid-2")).session_id == "sid-2"
    assert (await ledger.redeem(first.token_id, "node-1", "sid-3")).session_id == "sid-1"


async def test_a_killed_server_comes_back_with_every_token_as_it_was(
    server: RedisServer, ledger: RedisTokenLedger
) -> None:
    minted, active, revoked = new_token(), new_token(), new_token()
    for token in (minted, active, revoked):
        await ledger.mint(token)
    await ledger.redeem(active.token_id, "node-1", "sid-1")
    await ledger.end(revoked.token_id, TokenState.REVOKED)
    server.kill()
    with pytest.raises(LedgerUnavailableError):
        await ledger.redeem(minted.token_id, "node-1", "sid-2")
    server.start()
    states = [(await ledger.show(token.token_id)).state for token in (minted, active, revoked)]
    assert states == [TokenState.MINTED, TokenState.ACTIVE, TokenState.REVOKED]
    assert (await ledger.redeem(active.token_id, "node-1", "sid-3")).session_id == "sid-1"
    assert (await ledger.redeem(minted.token_id, "node-1", "sid-2")).opened


async def test_tokens_redeemed_while_the_server_is_killed_have_one_session_each(
    server: RedisServer, ledger: RedisTokenLedger
) -> None:
    tokens = [new_token() for _ in range(30)]
    for token in tokens:
        await ledger.mint(token)

    async def redeem(token_id: str) -> set[str]:
        sessions = set()
        for _ in range(40):
            try:
                sessions.add((await ledger.redeem(token_id, "node-1", some_id())).session_id)
            except LedgerUnavailableError:
                await asyncio.sleep(0.05)
        return sessions

    running = [asyncio.create_task(redeem(token.token_id)) for token in tokens]
    for _ in range(2):
        await asyncio.sleep(0.1)
        server.kill()
        server.start()
    assert [len(sessions) for sessions in await asyncio.gather(*running)] == [1] * len(tokens)


async def test_a_stalled_server_is_refused_in_time_and_recovers(
    server: RedisServer, ledger: RedisTokenLedger
) -> None:
    token = new_token()
    await ledger.mint(token)
    server.pause()
    began = time.monotonic()
    with pytest.raises(LedgerUnavailableError):
        await ledger.redeem(token.token_id, "node-1", "sid-1")
    assert time.monotonic() - began < 2
    server.resume()
    again = await ledger.redeem(token.token_id, "node-1", "sid-2")
    assert (await ledger.redeem(token.token_id, "node-1", "sid-3")).session_id == again.session_id


async def test_a_full_server_mints_nothing_and_an_emptied_one_does(
    ledger: RedisTokenLedger, redis: Redis
) -> None:
    token = new_token()
    await redis.config_set("maxmemory", "1")
    with pytest.raises(LedgerUnavailableError):
        await ledger.mint(token)
    await redis.config_set("maxmemory", "0")
    await ledger.mint(token)


async def test_a_full_server_opens_nothing_and_the_token_stays_valid(
    ledger: RedisTokenLedger, redis: Redis
) -> None:
    token = new_token()
    await ledger.mint(token)
    await redis.config_set("maxmemory", "1")
    for _ in range(2):
        with pytest.raises(LedgerUnavailableError):
            await ledger.redeem(token.token_id, "node-1", some_id())
    await redis.config_set("maxmemory", "0")
    first = await ledger.redeem(token.token_id, "node-1", some_id())
    assert (first.opened, first.exchanges) == (True, 1)
    assert not (await ledger.redeem(token.token_id, "node-1", some_id())).opened


async def test_a_server_paused_in_the_middle_of_a_crowd_opens_one_session_each(
    server: RedisServer, ledger: RedisTokenLedger
) -> None:
    tokens = [new_token() for _ in range(20)]
    for token in tokens:
        await ledger.mint(token)
    waiting = [asyncio.create_task(_persist(ledger, token.token_id)) for token in tokens for _ in range(3)]
    server.pause()
    await asyncio.sleep(PAUSE_S)
    server.resume()
    sessions = await asyncio.gather(*waiting)
    assert len(set(sessions)) == len(tokens)


async def _persist(ledger: RedisTokenLedger, token_id: str) -> str:
    while True:
        try:
            return (await ledger.redeem(token_id, "node-1", some_id())).session_id
        except LedgerUnavailableError:
            await asyncio.sleep(0.1)


async def test_a_replica_grants_nothing(server: RedisServer, ledger: RedisTokenLedger, redis: Redis) -> None:
    del server
    token = new_token()
    await ledger.mint(token)
    await redis.replicaof("127.0.0.1", 1)
    with pytest.raises(LedgerUnavailableError):
        await ledger.redeem(token.token_id, "node-1", "sid-1")
    await redis.replicaof("NO", "ONE")
    assert (await ledger.redeem(token.token_id, "node-1", "sid-1")).opened


async def test_a_key_of_another_kind_is_an_unavailable_ledger(ledger: RedisTokenLedger, redis: Redis) -> None:
    await redis.set("pt:{odd}", "something else")
    with pytest.raises(LedgerUnavailableError):
        await ledger.redeem("odd", "node-1", "sid-1")


async def test_a_lost_ledger_refuses_every_token(ledger: RedisTokenLedger, redis: Redis) -> None:
    token = new_token()
    await ledger.mint(token)
    await redis.flushall()
    with pytest.raises(Exception, match="unknown"):
        await ledger.redeem(token.token_id, "node-1", "sid-1")


async def test_a_lost_ledger_stops_a_running_response(redis: Redis, keys: LocalSigningKeys) -> None:
    stack = AuthStack(keys, RedisTokenLedger(redis))
    minted = await stack.mint()
    grant = await stack.realm.exchange(stack.request(minted.token))
    claims = stack.verifier.verify(grant.token.reveal())
    asked = {"repository": REPOSITORY, "digest": LAYER, "length_bytes": 900, "source": "192.0.2.7"}
    delivery = await stack.verifier.begin(claims, blob=True, **asked)  # type: ignore[arg-type]
    await redis.flushall()
    with pytest.raises(RefusedError, match="unknown"):
        await delivery.report()


async def test_nothing_is_kept_for_ever(ledger: RedisTokenLedger, redis: Redis) -> None:
    token = new_token()
    await ledger.mint(token)
    await ledger.redeem(token.token_id, "node-1", "sid-1")
    await ledger.begin(token.token_id, "sid-1", "r", blob=LAYER, length_bytes=900)
    await ledger.revoke_organization("acme")
    with pytest.raises(MintRefusedError):
        await ledger.mint(new_token())
    lives = {key: await redis.ttl(key) async for key in redis.scan_iter("*")}
    assert lives
    assert all(0 < life <= 25 * 3600 for life in lives.values())


async def test_an_exchange_waits_for_a_server_that_restarts(
    server: RedisServer, redis: Redis, keys: LocalSigningKeys
) -> None:
    stack = AuthStack(keys, RedisTokenLedger(redis, timeout_s=1.5))
    minted = await stack.mint()
    server.kill()
    exchange = asyncio.create_task(stack.realm.exchange(stack.request(minted.token)))
    await asyncio.sleep(0.7)
    assert not exchange.done()
    server.start()
    assert (await exchange).opened


async def test_without_the_ledger_nothing_is_granted_and_responses_end(
    server: RedisServer, redis: Redis, keys: LocalSigningKeys
) -> None:
    stack = AuthStack(keys, RedisTokenLedger(redis, timeout_s=1.5), patience_s=0.3)
    minted = await stack.mint()
    grant = await stack.realm.exchange(stack.request(minted.token))
    claims = stack.verifier.verify(grant.token.reveal())
    asked = {"repository": REPOSITORY, "digest": LAYER, "length_bytes": 900, "source": "192.0.2.7"}
    delivery = await stack.verifier.begin(claims, blob=True, **asked)  # type: ignore[arg-type]
    server.kill()
    delivery.sent(0, 400)
    await delivery.report()
    await delivery.finish()
    with pytest.raises(LedgerUnavailableError):
        await stack.verifier.begin(claims, blob=True, **asked)  # type: ignore[arg-type]
    with pytest.raises(LedgerUnavailableError):
        await stack.realm.exchange(stack.request(minted.token))
    assert stack.causes() == ["ledger_unavailable", "ledger_unavailable"]
