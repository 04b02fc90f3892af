import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from storage.threads import SerialExecutor, Threads, wait_uncancelled


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


async def test_a_lane_keeps_the_order_whatever_the_executor_does(executor: ThreadPoolExecutor) -> None:
    lanes, done = [SerialExecutor(executor) for _ in range(3)], [list[int]() for _ in range(3)]
    futures = []
    for number in range(2000):
        futures += [
            serial_executor.start(partial(log.append, number))
            for serial_executor, log in zip(lanes, done, strict=True)
        ]
        if number % 100 == 0:
            await asyncio.sleep(0)
    await wait_uncancelled(*futures)
    assert done == [list(range(2000))] * 3


async def test_a_piece_that_fails_tells_its_owner_and_the_next_one_follows(
    executor: ThreadPoolExecutor,
) -> None:
    serial_executor, done = SerialExecutor(executor), list[str]()

    def fail() -> None:
        raise OSError("no room")

    first, second = serial_executor.start(fail), serial_executor.start(partial(done.append, "second"))
    await wait_uncancelled(first, second)
    with pytest.raises(OSError, match="no room"):
        first.result()
    assert done == ["second"]


async def test_a_cancelled_caller_returns_only_after_its_thread(executor: ThreadPoolExecutor) -> None:
    started, go_on, ended = threading.Event(), threading.Event(), list[bool]()

    def work() -> None:
        started.set()
        assert go_on.wait(10)
        ended.append(True)

    task = asyncio.create_task(Threads(executor).run(work))
    assert await asyncio.to_thread(started.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]


async def test_what_was_opened_for_a_cancelled_caller_is_released(executor: ThreadPoolExecutor) -> None:
    started, go_on, released = threading.Event(), threading.Event(), list[str]()

    def work() -> str:
        started.set()
        assert go_on.wait(10)
        return "open file"

    task = asyncio.create_task(Threads(executor).acquire(work, released.append))
    assert await asyncio.to_thread(started.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert released == ["open file"]
    assert await Threads(executor).acquire(work, released.append) == "open file"
    assert released == ["open file"]
