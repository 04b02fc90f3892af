"""One transfer at a time of each blob, over all imports and all processes (docs/importer.md, "Transfer").

Whoever comes second waits, and then finds the blob there, or fetches it: because the first one failed, or
because what the first one may see is not for the second to have. When a holder dies, its lease lapses.
"""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from registry.model.imports import TransferLeases

_LOOK_S: Final = 0.5
_CALL_S: Final = 5.0


class TransferLock:
    """Hands out the right to bring a blob; one for each process.

    Args:
        leases: Shared with the other processes; None where there are none.
        lease_s: After which a dead process' blobs are brought by another.
    """

    def __init__(self, leases: TransferLeases | None = None, lease_s: float = 10.0) -> None:
        self._leases = leases
        self._lease_s = lease_s
        self._here: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def alone(self, key: str) -> AsyncIterator[None]:
        """Wait until nobody else has the key, and have it within the context."""
        lock, users = self._here.get(key, (asyncio.Lock(), 0))
        self._here[key] = lock, users + 1
        try:
            async with lock:
                if self._leases is None:
                    yield
                    return
                async with self._leased(self._leases, key):
                    yield
        finally:
            lock, users = self._here.pop(key)
            if users > 1:
                self._here[key] = lock, users - 1

    @asynccontextmanager
    async def _leased(self, leases: TransferLeases, key: str) -> AsyncIterator[None]:
        holder = secrets.token_hex(8)
        while not await self._take(leases, key, holder):  # noqa: ASYNC110 (no event between processes)
            await asyncio.sleep(_LOOK_S * random.uniform(0.5, 1.0))  # noqa: S311 (spread)
        extending = asyncio.create_task(self._extend(leases, key, holder), name=f"flight {key}")
        try:
            yield
        finally:
            extending.cancel()
            await asyncio.gather(extending, return_exceptions=True)
            with suppress(TimeoutError):  # it lapses by itself
                async with asyncio.timeout(_CALL_S):
                    await leases.end(key, holder)

    async def _take(self, leases: TransferLeases, key: str, holder: str) -> bool:
        try:
            async with asyncio.timeout(_CALL_S):
                return await leases.take(key, holder, self._lease_s)
        except TimeoutError:
            return True

    async def _extend(self, leases: TransferLeases, key: str, holder: str) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._lease_s / 3):
                    await leases.extend(key, holder, self._lease_s)
