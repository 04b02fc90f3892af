"""Upkeep of the audit trail and the daily figures: extends the hash chain, and removes what is old."""

import asyncio
from datetime import timedelta
from typing import Final

import structlog

from auth.ports import Clock
from registry.catalog.event_chain import BATCH, SqlEventChain
from registry.catalog.figures import SqlFigures
from registry.errors import RegistryError
from storage.errors import StorageError

EXTEND_S: Final = 1.0
PRUNE_S: Final = 3600.0

_log = structlog.get_logger(__name__)


class TrailKeeper:
    """Chains new records every second, and removes old ones every hour.

    Args:
        retention: Age at which records are removed; None keeps them.
    """

    def __init__(
        self, chain: SqlEventChain, figures: SqlFigures, clock: Clock, retention: timedelta | None
    ) -> None:
        self._chain = chain
        self._figures = figures
        self._clock = clock
        self._retention = retention

    async def run(self) -> None:
        """Run until cancelled. Failures are only logged; the next round continues."""
        loop = asyncio.get_running_loop()
        prune_at, reported = loop.time(), ""
        while True:
            try:
                await self.extend()
                if loop.time() >= prune_at:
                    prune_at = loop.time() + PRUNE_S
                    await self.prune()
                    await self._figures.prune(self._clock.now().date())
                reported = ""
            except (RegistryError, StorageError) as error:
                if str(error) != reported:
                    _log.error("audit_trail.not_kept", reason=str(error))
                reported = str(error)
            await asyncio.sleep(EXTEND_S)

    async def extend(self) -> None:
        """Chain all new records."""
        while await self._chain.extend() == BATCH:
            pass

    async def prune(self) -> int:
        """Remove all records that are older than the retention. Returns their number."""
        if self._retention is None:
            return 0
        now, count = self._clock.now(), 0
        while removed := await self._chain.prune(now - self._retention, now):
            count += removed
        return count
