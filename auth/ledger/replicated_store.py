"""Values beside the tokens that must survive a failover of Redis."""

from auth.ledger.connect import LedgerClient
from auth.ledger.scripts import Script, ScriptRunner

_TIMEOUT_S = 10.0


class ReplicatedStore:
    """Stores values, and returns when the required replicas have them.

    Args:
        replicas: Their number; 0 if the primary alone is enough.
    """

    def __init__(self, redis: LedgerClient, *, replicas: int = 0) -> None:
        self._redis = redis
        self._replicas = replicas
        self._put = Script("put")
        self._scripts = ScriptRunner(redis, timeout_s=_TIMEOUT_S, replicas=replicas)

    async def put(self, key: str, value: bytes, ttl_s: int) -> None:
        """Store a value.

        Raises:
            LedgerUnavailableError: Redis does not answer, or the replicas do not follow in time.
            RedisError: Redis does not answer.
        """
        if self._replicas == 0:
            await self._redis.set(key, value, ex=ttl_s)
        else:
            await self._scripts.run_durably(self._put, [key], value, ttl_s)
