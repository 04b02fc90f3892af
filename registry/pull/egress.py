"""Counts the bytes that nodes receive, for charts (docs/adr/0082-daily-figures.md)."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

import structlog

from auth.claims import SessionClaims
from auth.ports import Clock
from registry.errors import RegistryError
from registry.model.figures import FigureKey, FigureKind

STORE_EVERY_S: Final = 10.0
MAX_KEYS: Final = 50_000

_log = structlog.get_logger(__name__)


class EgressCounter:
    """Adds up bytes in memory, and stores the sums every ten seconds.

    A process that is killed loses the bytes since. During an outage of the database, the sums wait in memory;
    bytes beyond `MAX_KEYS` sums are not counted.

    Args:
        store: Adds to the stored sums.
    """

    def __init__(self, store: Callable[[Mapping[FigureKey, int]], Awaitable[None]], clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._counted: Counter[FigureKey] = Counter()
        self._storing: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def count(self, claims: SessionClaims, nbytes: int) -> None:
        """Count bytes that a session's node has received. Does no I/O."""
        day, organization = self._clock.now().date(), claims.organization
        group = claims.repository.removeprefix(f"{organization}/") if claims.repository else ""
        for kind, label in (
            (FigureKind.EGRESS, ""),
            (FigureKind.EGRESS_GROUP, group),
            (FigureKind.EGRESS_NODE, claims.node_id),
        ):
            key = FigureKey(day, organization, kind, label)
            if key in self._counted or len(self._counted) < MAX_KEYS:
                self._counted[key] += nbytes
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store_later())

    async def aclose(self) -> None:
        """Store all sums."""
        self._closing.set()
        if self._storing is not None:
            await self._storing
        if self._counted:
            await self._store_now()

    async def _store_later(self) -> None:
        while self._counted and not self._closing.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), STORE_EVERY_S)
            await self._store_now()

    async def _store_now(self) -> None:
        counted, self._counted = self._counted, Counter()
        try:
            await self._store(counted)
        except RegistryError as error:
            self._counted.update(counted)
            _log.warning("egress.not_stored", reason=str(error))
