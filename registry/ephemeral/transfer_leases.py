"""Who is bringing a blob just now (keeps `registry.model.imports.TransferLeases`)."""

from typing import Final

import structlog
from redis.exceptions import RedisError

from auth.ledger import LedgerClient

# Both only touch a lease that is still the caller's.
_EXTEND: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0"""
_END: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0"""
_log = structlog.get_logger(__name__)


class RedisTransferLeases:
    """Leases as `flight:{<key>}`, each gone when its holder stops extending it.

    They save work and guard nothing: when Redis does not answer, everybody goes ahead.
    """

    def __init__(self, redis: LedgerClient) -> None:
        self._redis = redis

    async def take(self, key: str, holder: str, lease_s: float) -> bool:
        """Lease a key; False while another holds it."""
        try:
            return bool(await self._redis.set(_name(key), holder, nx=True, px=round(lease_s * 1000)))
        except (RedisError, OSError) as error:
            _log.warning("flight.unknown", error=type(error).__name__)
            return True

    async def extend(self, key: str, holder: str, lease_s: float) -> None:
        """Extend a lease, if it is the holder's."""
        await self._run(_EXTEND, key, holder, str(round(lease_s * 1000)))

    async def end(self, key: str, holder: str) -> None:
        """End a lease, if it is the holder's."""
        await self._run(_END, key, holder)

    async def _run(self, script: str, key: str, *arguments: str) -> None:
        try:
            await self._redis.eval(script, 1, _name(key), *arguments)
        except (RedisError, OSError) as error:
            _log.warning("flight.unknown", error=type(error).__name__)


def _name(key: str) -> str:
    return f"flight:{{{key}}}"
