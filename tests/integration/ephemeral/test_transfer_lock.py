"""The transfer lock over real servers: one, behind sentinels, and a cluster."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest

from auth.ledger import LedgerClient, connect
from registry.imports.transfer_lock import TransferLock
from tests.support.redis_server import RedisServer, running_server, server_programs
from tests.support.replicated_redis import Cluster, Sentinels, running


@pytest.fixture(scope="module")
def single() -> Iterator[RedisServer]:
    with running_server(next(iter(server_programs().values()))) as server:
        yield server


@pytest.fixture
async def redis(single: RedisServer) -> AsyncIterator[LedgerClient]:
    client = connect(single.url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture(scope="module", params=["single", "sentinels", "cluster"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with ExitStack() as stack:
        if request.param == "single":
            yield request.getfixturevalue("single").url
        else:
            yield (
                stack.enter_context(running(Sentinels)).url
                if request.param == "sentinels"
                else stack.enter_context(running(Cluster)).url
            )


class Runway:
    """Counts who is on it."""

    def __init__(self) -> None:
        self.now = self.most = self.landed = 0

    async def use(self, transfer_lock: TransferLock, key: str = "a") -> None:
        async with transfer_lock.hold(key):
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.01)
            self.now -= 1
            self.landed += 1


async def test_one_at_a_time_has_a_key_over_all_processes_and_all_get_it(url: str) -> None:
    clients, runway = [connect(url), connect(url)], Runway()
    processes = [TransferLock(client) for client in clients]
    try:
        async with asyncio.timeout(30):
            await asyncio.gather(*(runway.use(each) for each in processes * 3))
        assert (runway.most, runway.landed) == (1, 6)
        assert await clients[0].get("transfer:{a}") is None
    finally:
        for client in clients:
            await client.aclose()


async def test_different_keys_do_not_wait_for_each_other() -> None:
    transfer_lock, runway = TransferLock(), Runway()
    await asyncio.gather(*(runway.use(transfer_lock, key) for key in "abc"))
    assert runway.most == 3


async def test_a_lease_outlasts_itself_while_its_holder_lives_and_is_followed_when_it_dies(
    redis: LedgerClient,
) -> None:
    loop = asyncio.get_running_loop()
    async with TransferLock(redis, 0.3).hold("a"):
        await asyncio.sleep(0.9)
        assert await redis.get("transfer:{a}") is not None
    await redis.set("transfer:{a}", "a dead process", px=400)
    began = loop.time()
    async with TransferLock(redis, 0.3).hold("a"):
        assert loop.time() - began >= 0.4


async def test_a_cancelled_holder_releases_the_lock_at_once(redis: LedgerClient) -> None:
    runway, transfer_lock, held = Runway(), TransferLock(redis, 60), asyncio.Event()

    async def hold() -> None:
        async with transfer_lock.hold("a"):
            held.set()
            await asyncio.sleep(60)

    holder = asyncio.create_task(hold())
    await held.wait()
    waiter = asyncio.create_task(runway.use(transfer_lock))
    holder.cancel()
    async with asyncio.timeout(5):
        await waiter
    assert runway.landed == 1
    assert await redis.get("transfer:{a}") is None


async def test_a_holder_whose_lease_was_taken_over_leaves_it_to_the_other(redis: LedgerClient) -> None:
    async with TransferLock(redis, 60).hold("a"):
        await redis.set("transfer:{a}", "another process")
    assert await redis.get("transfer:{a}") == b"another process"


async def test_a_redis_that_does_not_answer_keeps_nobody_waiting() -> None:
    runway = Runway()
    with running_server(next(iter(server_programs().values()))) as server:
        client = connect(server.url, socket_timeout_s=0.2)
        try:
            server.pause()
            async with asyncio.timeout(10):
                await runway.use(TransferLock(client))
            server.resume()
            async with asyncio.timeout(10), TransferLock(client).hold("a"):
                server.kill()
        finally:
            await client.aclose()
    assert runway.landed == 1
