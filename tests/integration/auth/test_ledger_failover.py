"""Replicated ledgers, as real processes: whatever fails over, no token ever opens two sessions."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from auth.errors import Cause, LedgerUnavailableError, RefusedError
from auth.ledger import LedgerClient, RedisTokenLedger, connect
from auth.records import NewToken, Redemption, TokenState
from tests.support.ledgers import LAYER, new_token, some_id
from tests.support.processes import wait_until
from tests.support.replicated_redis import Cluster, Sentinels, running


@pytest.fixture
def sentinels() -> Iterator[Sentinels]:
    with running(Sentinels) as shape:
        yield shape


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running(Cluster) as shape:
        yield shape


async def _connected(url: str) -> AsyncIterator[LedgerClient]:
    client = connect(url, socket_timeout_s=0.5)
    yield client
    await client.aclose()


@pytest.fixture
async def right_side(sentinels: Sentinels) -> AsyncIterator[RedisTokenLedger]:
    async for client in _connected(sentinels.url):
        yield _durable(client)


@pytest.fixture
async def wrong_side(sentinels: Sentinels) -> AsyncIterator[RedisTokenLedger]:
    async for client in _connected(sentinels.wrong_side):
        yield _durable(client)


@pytest.fixture
async def sharded(cluster: Cluster) -> AsyncIterator[RedisTokenLedger]:
    async for client in _connected(cluster.url):
        yield RedisTokenLedger(client, timeout_s=2, replicated=True)


def _durable(client: LedgerClient) -> RedisTokenLedger:
    return RedisTokenLedger(client, timeout_s=2, min_replicas=1, replicas_timeout_s=1)


async def redeem(ledger: RedisTokenLedger, token: NewToken) -> Redemption:
    return await ledger.redeem(token.token_id, token.node_id, some_id())


async def patiently(ledger: RedisTokenLedger, token: NewToken, timeout_s: float = 15) -> Redemption:
    """Redeem as the realm does: until the ledger answers."""
    give_up = time.monotonic() + timeout_s
    while True:
        try:
            return await redeem(ledger, token)
        except LedgerUnavailableError:
            if time.monotonic() > give_up:
                raise
            await asyncio.sleep(0.1)


async def minted(ledger: RedisTokenLedger, count: int, **changes: object) -> list[NewToken]:
    tokens = [new_token(**changes) for _ in range(count)]
    for token in tokens:
        await ledger.mint(token)
    return tokens


async def test_a_primary_without_its_replica_opens_no_session_twice(
    sentinels: Sentinels, right_side: RedisTokenLedger, wrong_side: RedisTokenLedger
) -> None:
    active, cut_off, waiting = await minted(right_side, 3)
    before = await redeem(right_side, active)
    sentinels.cable.cut()
    for _ in range(2):
        with pytest.raises(LedgerUnavailableError, match="only 0 of 1 required replicas"):
            await redeem(wrong_side, cut_off)
    await asyncio.to_thread(
        wait_until, sentinels.replica_is_primary, timeout_s=20, what="the replica is promoted"
    )
    for side in (right_side, wrong_side):  # neither has a replica now
        for token in (active, cut_off, waiting):
            with pytest.raises(LedgerUnavailableError):
                await redeem(side, token)
    sentinels.cable.mend()
    again = await patiently(right_side, active, timeout_s=40)
    assert (again.session_id, again.opened) == (before.session_id, False)
    for token in (cut_off, waiting):
        with pytest.raises(RefusedError) as refusal:
            await patiently(right_side, token)
        assert refusal.value.cause is Cause.FENCED
        with pytest.raises(LedgerUnavailableError):
            await redeem(wrong_side, token)
    (after,) = await minted(right_side, 1)
    assert (await patiently(right_side, after)).opened


async def test_the_retry_of_an_unreplicated_redemption_is_the_same_session(
    sentinels: Sentinels, wrong_side: RedisTokenLedger
) -> None:
    token, doomed = await minted(wrong_side, 2)
    sentinels.replica.process.kill9()
    proposed = some_id()
    with pytest.raises(LedgerUnavailableError, match="replicas"):
        await wrong_side.redeem(token.token_id, "node-1", proposed)
    with pytest.raises(LedgerUnavailableError, match="replicas"):
        await wrong_side.end(doomed.token_id, TokenState.REVOKED)
    sentinels.replica.start()
    await asyncio.to_thread(
        wait_until, lambda: sentinels.followers() == 1, timeout_s=20, what="the replica follows again"
    )
    retried = await redeem(wrong_side, token)
    assert (retried.session_id, retried.opened) == (proposed, False)
    assert (await wrong_side.show(doomed.token_id)).state is TokenState.REVOKED


async def test_every_transition_works_on_a_cluster(sharded: RedisTokenLedger) -> None:
    group = some_id()
    tokens = await minted(sharded, 24, group_id=group, organization=some_id())
    sessions = [await redeem(sharded, token) for token in tokens[:12]]
    assert all(session.opened for session in sessions)
    for token, session in zip(tokens, sessions, strict=False):
        granted = await sharded.begin(token.token_id, session.session_id, "r", blob=LAYER, length_bytes=900)
        assert granted == 900
    assert await sharded.end(tokens[0].token_id, TokenState.DONE) is TokenState.ACTIVE
    assert await sharded.revoke_organization(tokens[0].organization) == 23
    states = {(await sharded.show(token.token_id)).state for token in tokens[1:]}
    assert states == {TokenState.REVOKED}


async def test_a_cluster_that_lost_a_node_grants_nothing_there_and_recovers(
    cluster: Cluster, sharded: RedisTokenLedger
) -> None:
    tokens = await minted(sharded, 30, group_id=some_id())
    opened = {token.token_id: await redeem(sharded, token) for token in tokens[:15]}
    cluster.nodes[1].process.kill9()
    outcomes = [await _outcome(sharded, token) for token in tokens]
    assert "LedgerUnavailableError" in outcomes
    cluster.nodes[1].start()
    await asyncio.to_thread(wait_until, cluster.well, timeout_s=20, what="the cluster is well again")
    for token in tokens[:15]:
        assert (await patiently(sharded, token)).session_id == opened[token.token_id].session_id
    after = [await _outcome(sharded, token) for token in tokens[15:]]
    assert set(after) <= {"opened", "same", "fenced"}
    assert "fenced" in after


async def test_a_cluster_without_replicas_refuses_when_they_are_required(cluster: Cluster) -> None:
    async for client in _connected(cluster.url):
        ledger = RedisTokenLedger(client, timeout_s=2, min_replicas=1, replicas_timeout_s=0.2)
        (token,) = await minted(ledger, 1)
        with pytest.raises(LedgerUnavailableError, match="only 0 of 1 required replicas"):
            await redeem(ledger, token)


async def _outcome(ledger: RedisTokenLedger, token: NewToken) -> str:
    try:
        return "opened" if (await redeem(ledger, token)).opened else "same"
    except RefusedError as refusal:
        return refusal.cause.value
    except LedgerUnavailableError as error:
        return type(error).__name__
