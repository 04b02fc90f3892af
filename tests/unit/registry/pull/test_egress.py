"""Bytes to nodes are added up in memory and stored."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, date, datetime

import pytest

from auth.claims import Access, SessionClaims
from registry.errors import CatalogUnavailableError
from registry.model.figures import FigureKey, FigureKind
from registry.pull import egress
from registry.pull.egress import EgressCounter

NOW = datetime(2026, 12, 1, tzinfo=UTC)
DAY = date(2026, 12, 1)
ALL = FigureKey(DAY, "acme", FigureKind.EGRESS, "")
GROUP = FigureKey(DAY, "acme", FigureKind.EGRESS_GROUP, "default/app")
NODE = FigureKey(DAY, "acme", FigureKind.EGRESS_NODE, "pc-7")
ACCESS = (Access("repository", "acme/default/app", ("pull",)),)
CLAIMS = SessionClaims("t", "pc-7", "acme", "s", ACCESS, "sha256:00", NOW)


class Clock:
    def now(self) -> datetime:
        return NOW


class Stored:
    """A store that can be out of order."""

    def __init__(self) -> None:
        self.sums: Counter[FigureKey] = Counter()
        self.is_down = False
        self.writes = 0
        self.written, self.refused = asyncio.Event(), asyncio.Event()

    async def add(self, figures: Mapping[FigureKey, int]) -> None:
        if self.is_down:
            self.refused.set()
            raise CatalogUnavailableError("down")
        self.writes += 1
        self.sums.update(figures)
        self.written.set()


async def test_bytes_are_stored_at_the_end() -> None:
    stored = Stored()
    counter = EgressCounter(stored.add, Clock())
    for nbytes in (5, 7):
        counter.count(CLAIMS, nbytes)
    assert not stored.sums
    await counter.aclose()
    assert stored.sums == {ALL: 12, GROUP: 12, NODE: 12}
    assert stored.writes == 1


async def test_an_outage_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "STORE_EVERY_S", 0.01)
    stored = Stored()
    stored.is_down = True
    counter = EgressCounter(stored.add, Clock())
    counter.count(CLAIMS, 5)
    await stored.refused.wait()
    stored.is_down = False
    await stored.written.wait()
    counter.count(CLAIMS, 1)
    await counter.aclose()
    assert stored.sums == {ALL: 6, GROUP: 6, NODE: 6}


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "MAX_KEYS", 1)
    stored = Stored()
    counter = EgressCounter(stored.add, Clock())
    counter.count(CLAIMS, 5)
    counter.count(CLAIMS, 5)
    await counter.aclose()
    assert stored.sums == {ALL: 10}
