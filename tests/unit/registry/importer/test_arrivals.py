"""What goes on with layers while others arrive: in what order, what is told, and how it ends."""

import asyncio

import pytest

from registry.errors import PullFailedError, StoreFailedError
from registry.import_ports import Progress, Stage
from registry.importer.arrivals import Arrivals, together
from storage.digest import Digest

FIRST, SECOND, THIRD = (Digest.of(name) for name in (b"first", b"second", b"third"))


class Storage:
    def __init__(self) -> None:
        self.there: set[Digest] = set()

    async def contains(self, digest: Digest) -> bool:
        return digest in self.there


def pulled(layers_done: int) -> Progress:
    return Progress(Stage.PULLING, layers_done, 3)


async def test_layers_are_taken_as_they_arrive_and_all_once_everything_is_there() -> None:
    storage = Storage()
    arrivals = Arrivals(lambda _progress: None, storage.contains)
    waiting = dict.fromkeys([FIRST, SECOND, THIRD])
    asked = asyncio.create_task(arrivals.next_of(waiting))
    arrivals.report(pulled(0))
    storage.there.add(SECOND)
    arrivals.report(pulled(1))
    async with asyncio.timeout(5):
        assert await asked == SECOND
    del waiting[SECOND]
    asked = asyncio.create_task(arrivals.next_of(waiting))
    await asyncio.sleep(0)
    arrivals.complete()
    async with asyncio.timeout(5):
        assert await asked == FIRST
        assert await arrivals.next_of([THIRD]) == THIRD


async def test_while_layers_arrive_pulling_is_what_is_told() -> None:
    told: list[Progress] = []
    arrivals = Arrivals(told.append, Storage().contains)
    compressing = Progress(Stage.COMPRESSING, 1, 3)
    arrivals.report(pulled(1))
    arrivals.report_later(compressing)
    assert told == [pulled(1)]
    arrivals.complete()
    arrivals.report_later(compressing)
    assert told == [pulled(1), compressing]


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
        await together(failing(PullFailedError("gone")), for_ever(stopped))
    with pytest.raises(PullFailedError, match="lies"):
        await together(for_ever(stopped), failing(PullFailedError("lies")))
    with pytest.raises(ConnectionError):
        await together(for_ever(stopped), failing(ConnectionError()))
    with pytest.raises(StoreFailedError):
        await together(failing(ValueError()), failing(StoreFailedError("full")))
    assert stopped == ["stopped"] * 3


async def test_both_are_stopped_when_the_import_is() -> None:
    stopped: list[str] = []
    running = asyncio.create_task(together(for_ever(stopped), for_ever(stopped)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert stopped == ["stopped"] * 2
