"""Work that one process at a time does for all."""

import secrets
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

from auth.ports import AuditEvent
from registry.catalog.maintenance import SqlUpkeep
from registry.errors import ConflictError, RegistryError

_LEASE_S = 60.0


class Lease:
    """A leased kind of work; made by `hold`."""

    def __init__(self, upkeep: SqlUpkeep, name: str, holder: str) -> None:
        self._upkeep = upkeep
        self._name = name
        self._holder = holder
        self._renewed_at = time.monotonic()

    @classmethod
    @asynccontextmanager
    async def hold(cls, upkeep: SqlUpkeep, name: str) -> AsyncIterator[Self]:
        """Hold the lease within the context. Raises ConflictError: another process holds it."""
        holder = f"{socket.gethostname()[:40]}-{secrets.token_hex(8)}"
        lease = cls(upkeep, name, holder)
        await lease._acquire()
        try:
            yield lease
        finally:
            with suppress(RegistryError):  # it lapses by itself
                await upkeep.release(name, holder)

    async def still_ours(self) -> None:
        """Extend the lease when it is time to. Raises ConflictError: another process took it over."""
        if time.monotonic() - self._renewed_at > _LEASE_S / 3:
            await self._acquire()

    async def advance(self, cursor: str) -> None:
        """Note how far the work is."""
        await self._upkeep.advance(self._name, self._holder, cursor)

    async def finish(self, report: Mapping[str, Any], *recorded: AuditEvent) -> None:
        """Note the end of the work, with the events."""
        await self._upkeep.finish(self._name, self._holder, report, *recorded)

    async def _acquire(self) -> None:
        asked = time.monotonic()
        if not await self._upkeep.acquire(self._name, self._holder, _LEASE_S):
            raise ConflictError(f"another process is at it: {self._name}; wait until it is done")
        self._renewed_at = asked
