"""Parts of an import side by side: what fails first is what is raised, and stops the others."""

import asyncio

import pytest

from registry.errors import PullFailedError, StoreFailedError
from registry.imports.gather import gather_both, gather_or_cancel

pytestmark = pytest.mark.usefixtures("virtual_time")


async def for_ever(stopped: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        stopped.append("stopped")


async def failing(error: Exception) -> None:
    raise error


async def test_what_fails_first_stops_the_other_and_is_what_is_raised() -> None:
    stopped: list[str] = []
    with pytest.raises(PullFailedError, match="gone"):
        await gather_both(failing(PullFailedError("gone")), for_ever(stopped))
    with pytest.raises(PullFailedError, match="lies"):
        await gather_both(for_ever(stopped), failing(PullFailedError("lies")))
    with pytest.raises(ConnectionError):
        await gather_both(for_ever(stopped), failing(ConnectionError()))
    with pytest.raises(StoreFailedError):
        await gather_both(failing(ValueError()), failing(StoreFailedError("full")))
    assert stopped == ["stopped"] * 3


async def test_both_are_stopped_when_the_import_is() -> None:
    stopped: list[str] = []
    running = asyncio.create_task(gather_both(for_ever(stopped), for_ever(stopped)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert stopped == ["stopped"] * 2


async def test_results_come_in_the_order_of_the_parts() -> None:
    async def after(pause_s: float) -> float:
        await asyncio.sleep(pause_s)
        return pause_s

    assert await gather_or_cancel(map(after, (0.03, 0.01, 0.02))) == [0.03, 0.01, 0.02]
    assert await gather_or_cancel(()) == []
