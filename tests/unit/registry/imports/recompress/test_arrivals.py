"""Layers are processed while others still arrive: their order, reported progress, and the end."""

import asyncio

from registry.imports.recompress.arrivals import Arrivals
from registry.model.imports import Progress, Stage
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
