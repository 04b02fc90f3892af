"""A call to the ledger does not lose the cancellation of its task."""

import asyncio
from contextlib import suppress

import pytest

from auth.ledger.scripts import _cancellation_kept


@pytest.mark.parametrize("lost_to", [ConnectionError, None])
async def test_a_cancellation_that_the_client_lost_is_raised(lost_to: type[Exception] | None) -> None:
    waiting = asyncio.Event()

    async def call() -> None:
        with _cancellation_kept():
            try:
                waiting.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if lost_to is not None:
                    raise lost_to from None

    task = asyncio.create_task(call())
    await waiting.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_a_call_during_the_end_of_a_cancelled_task_goes_on() -> None:
    replies = []

    async def call() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            with _cancellation_kept():
                replies.append("reply")

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert replies == ["reply"]
