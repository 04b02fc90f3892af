import asyncio

import pytest

from registry.imports.transfer_lock import TransferLock
from tests.support.memory_ports import MemoryTransferLeases

pytestmark = pytest.mark.usefixtures("virtual_time")


class Runway:
    """Counts who is on it."""

    def __init__(self) -> None:
        self.now = self.most = self.landed = 0

    async def use(self, transfer_lock: TransferLock, key: str = "a") -> None:
        async with transfer_lock.alone(key):
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.01)
            self.now -= 1
            self.landed += 1


async def test_one_at_a_time_has_a_key_over_all_processes_and_all_get_it() -> None:
    leases, runway = MemoryTransferLeases(), Runway()
    processes = [TransferLock(leases), TransferLock(leases)]
    async with asyncio.timeout(20):
        await asyncio.gather(*(runway.use(each) for each in processes * 3))
    assert (runway.most, runway.landed) == (1, 6)
    assert leases.held == {}


async def test_different_keys_do_not_wait_for_each_other() -> None:
    transfer_lock, runway = TransferLock(), Runway()
    await asyncio.gather(*(runway.use(transfer_lock, key) for key in "abc"))
    assert runway.most == 3


async def test_a_lease_is_extended_while_its_holder_lives_and_then_lapses() -> None:
    leases, loop = MemoryTransferLeases(), asyncio.get_running_loop()
    async with TransferLock(leases, 0.3).alone("a"):
        await asyncio.sleep(0.9)
        assert not await leases.take("a", "other", 1)
    await leases.take("a", "a dead process", 0.4)
    began = loop.time()
    async with TransferLock(leases, 0.3).alone("a"):
        assert loop.time() - began >= 0.4


async def test_a_cancelled_holder_releases_the_key_at_once() -> None:
    leases, runway = MemoryTransferLeases(), Runway()
    transfer_lock = TransferLock(leases, 60)

    async def hold() -> None:
        async with transfer_lock.alone("a"):
            await asyncio.sleep(60)

    holder = asyncio.create_task(hold())
    await asyncio.sleep(0.05)
    waiter = asyncio.create_task(runway.use(transfer_lock))
    holder.cancel()
    async with asyncio.timeout(5):
        await waiter
    assert runway.landed == 1
    assert leases.held == {}


async def test_leases_that_do_not_answer_are_ignored() -> None:
    class Silent(MemoryTransferLeases):
        async def take(self, key: str, holder: str, lease_s: float) -> bool:
            raise TimeoutError(key, holder, lease_s)

    runway = Runway()
    await runway.use(TransferLock(Silent()))
    assert runway.landed == 1
