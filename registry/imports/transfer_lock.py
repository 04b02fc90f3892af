"""One transfer at a time of each blob, over all imports and all processes (docs/importer.md, "Transfer").

Whoever comes second waits, and then finds the blob there, or fetches it: because the first one failed, or
because what the first one may see is not for the second to have. When a holder dies, its lease lapses.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog
from redis.asyncio.lock import Lock
from redis.exceptions import RedisError

from auth.ledger import LedgerClient
from storage.locks import KeyedLocks

_POLL_S: Final = 0.5
_log = structlog.get_logger(__name__)


class TransferLock:
    """Hands out the right to bring a blob; one for each process.

    It saves work and guards nothing: when Redis does not answer, everybody goes ahead.

    Args:
        redis: Shared with the other processes, as `flight:{<key>}`; None where there are none.
        lease_s: After which a dead process' blobs are brought by another.
    """

    def __init__(self, redis: LedgerClient | None = None, lease_s: float = 10.0) -> None:
        self._redis = redis
        self._lease_s = lease_s
        self._here: KeyedLocks[str] = KeyedLocks()

    @asynccontextmanager
    async def alone(self, key: str) -> AsyncIterator[None]:
        """Wait until nobody else has the key, and have it within the context."""
        async with self._here.hold(key):
            lease = await self._lease(key)
            if lease is None:
                yield
                return
            extending = asyncio.create_task(self._extend(lease), name=f"transfer lease {key}")
            try:
                yield
            finally:
                extending.cancel()
                await asyncio.gather(extending, return_exceptions=True)
                with suppress(RedisError, OSError):  # it lapses by itself
                    await lease.release()

    async def _lease(self, key: str) -> Lock | None:
        """Wait for the lease; None where there are no other processes, or Redis does not answer."""
        if self._redis is None:
            return None
        lease = Lock(self._redis, f"flight:{{{key}}}", timeout=self._lease_s, sleep=_POLL_S)
        try:
            await lease.acquire()
        except (RedisError, OSError) as error:
            _log.warning("transfer_lock.unknown", error=type(error).__name__)
            return None
        return lease

    async def _extend(self, lease: Lock) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            with suppress(RedisError, OSError):
                await lease.reacquire()
