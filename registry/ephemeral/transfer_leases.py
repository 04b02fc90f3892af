"""Leases on blob transfers in Redis (implements `registry.model.imports.TransferLeases`)."""

from typing import Final

import structlog
from redis.exceptions import RedisError

from auth.ledger import LedgerClient

# Both scripts only change a lease that the caller still holds.
_EXTEND: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0"""
_END: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0"""
_log = structlog.get_logger(__name__)


class RedisTransferLeases:
    """Stores leases as `transfer:{<key>}`. A lease expires if its holder stops extending it.

    Leases only avoid duplicate work. If Redis does not answer, all callers proceed.
    """

    def __init__(self, redis: LedgerClient) -> None:
        self._redis = redis

    async def take(self, key: str, holder: str, lease_s: float) -> bool:
        """Lease a key. Returns False while another holder has it."""
        try:
            return bool(await self._redis.set(_name(key), holder, nx=True, px=round(lease_s * 1000)))
        except (RedisError, OSError) as error:
            _log.warning("transfer_lease.unavailable", error=type(error).__name__)
            return True

    async def extend(self, key: str, holder: str, lease_s: float) -> None:
        """Extend a lease, if this holder has it."""
        await self._run(_EXTEND, key, holder, str(round(lease_s * 1000)))

    async def end(self, key: str, holder: str) -> None:
        """End a lease, if this holder has it."""
        await self._run(_END, key, holder)

    async def _run(self, script: str, key: str, *arguments: str) -> None:
        try:
            await self._redis.eval(script, 1, _name(key), *arguments)
        except (RedisError, OSError) as error:
            _log.warning("transfer_lease.unavailable", error=type(error).__name__)


def _name(key: str) -> str:
    return f"transfer:{{{key}}}"
