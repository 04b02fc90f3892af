"""Leases for maintenance work that only one process may do at a time."""

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
    """A lease on one kind of maintenance work; created by `hold`."""

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
            with suppress(RegistryError):  # the lease expires by itself
                await upkeep.release(name, holder)

    async def extend(self) -> None:
        """Extend the lease if it is due. Raises ConflictError: another process has taken it over."""
        if time.monotonic() - self._renewed_at > _LEASE_S / 3:
            await self._acquire()

    async def advance(self, cursor: str) -> None:
        """Record the progress of the work."""
        await self._upkeep.advance(self._name, self._holder, cursor)

    async def finish(self, report: Mapping[str, Any], *recorded: AuditEvent) -> None:
        """Record the end of the work, together with audit events."""
        await self._upkeep.finish(self._name, self._holder, report, *recorded)

    async def _acquire(self) -> None:
        asked = time.monotonic()
        if not await self._upkeep.acquire(self._name, self._holder, _LEASE_S):
            raise ConflictError(
                f"another process is running {self._name}; wait until it is done, then try again"
            )
        self._renewed_at = asked
