"""Batches: what goes together, and what is left out."""

import asyncio
from collections.abc import Sequence

import pytest

from auth.coalescer import Coalescer

pytestmark = pytest.mark.usefixtures("virtual_time")


async def test_a_failed_batch_fails_its_callers_and_the_next_one_works() -> None:
    attempts = 0

    async def work(items: Sequence[int]) -> list[int]:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise OSError("no")
        return list(items)

    batches: Coalescer[int, int] = Coalescer(work, most=8)
    outcomes = await asyncio.gather(*(batches.do(n) for n in range(20)), return_exceptions=True)
    assert [isinstance(outcome, OSError) for outcome in outcomes] == [True] * 8 + [False] * 12
    assert outcomes[8:] == list(range(8, 20))


@pytest.mark.parametrize("drop", [False, True])
async def test_a_cancelled_item_is_done_unless_it_is_to_be_dropped(
    drop: bool,  # noqa: FBT001
) -> None:
    done: list[int] = []
    first = asyncio.Event()

    async def work(items: Sequence[int]) -> list[int]:
        if not done:
            await first.wait()
        done.extend(items)
        return list(items)

    batches: Coalescer[int, int] = Coalescer(work, drop_cancelled=drop)
    under_way = asyncio.create_task(batches.do(0))
    await asyncio.sleep(0.01)
    given_up, waiting = asyncio.create_task(batches.do(1)), asyncio.create_task(batches.do(2))
    await asyncio.sleep(0.01)
    given_up.cancel()
    first.set()
    assert [await under_way, await waiting] == [0, 2]
    await batches.aclose()
    assert done == ([0, 2] if drop else [0, 1, 2])


async def test_a_batch_of_nothing_but_what_was_given_up_is_no_batch() -> None:
    seen: list[Sequence[int]] = []

    async def work(items: Sequence[int]) -> list[int]:
        seen.append(items)
        return list(items)

    batches: Coalescer[int, int] = Coalescer(work, drop_cancelled=True)
    given_up = asyncio.create_task(batches.do(1))
    await asyncio.sleep(0)
    given_up.cancel()
    await batches.aclose()
    assert seen == []
    assert await batches.do(2) == 2
