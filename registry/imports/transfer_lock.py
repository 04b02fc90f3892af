"""A lock per blob, shared by all imports and processes (docs/importer.md, "Transfer").

The second import waits for the first. It then finds the blob stored, or fetches it itself if the first import
failed or the second has no access to the stored copy. If a holder dies, its lease expires.
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
    """Ensures that only one import transfers a blob at a time; one instance per process.

    It only avoids duplicate work, so transfers continue without it if Redis does not answer.

    Args:
        redis: Holds the leases that processes share, as `transfer:{<key>}`; None for a single process.
        lease_s: Time after which another process can transfer the blobs of a dead one.
    """

    def __init__(self, redis: LedgerClient | None = None, lease_s: float = 10.0) -> None:
        self._redis = redis
        self._lease_s = lease_s
        self._here: KeyedLocks[str] = KeyedLocks()

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Wait for the lock of a key, and hold it within the context."""
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
                with suppress(RedisError, OSError):  # the lease expires by itself
                    await lease.release()

    async def _lease(self, key: str) -> Lock | None:
        """Wait for the lease; None for a single process, or if Redis does not answer."""
        if self._redis is None:
            return None
        lease = Lock(self._redis, f"transfer:{{{key}}}", timeout=self._lease_s, sleep=_POLL_S)
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
