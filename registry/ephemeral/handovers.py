"""Which parts of layers sessions were sent elsewhere for, shared by all servers."""

from typing import Final

import structlog
from redis.exceptions import RedisError

from auth.ledger import LedgerClient

MAX_PARTS: Final = 16_384

_TTL_S: Final = 3600
_FAILED: Final = "*"
_log = structlog.get_logger(__name__)


class RedisHandovers:
    """Sets `handover:{<session>}` of the parts that a session has asked for; they expire after an hour."""

    def __init__(self, redis: LedgerClient) -> None:
        self._redis = redis

    async def may_leave(self, session: str, part: str) -> bool:
        """Record that a session asks for a part. Returns whether another server may send it.

        A session that asks for a part again has got no answer elsewhere: it gets everything from here from
        then on. So does a session with more than `MAX_PARTS` parts, and each session while Redis does not
        answer.
        """
        name = f"handover:{{{session}}}"
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.sismember(name, _FAILED)
                pipeline.scard(name)
                pipeline.sadd(name, part)
                pipeline.expire(name, _TTL_S)
                has_failed, count, added, _ = await pipeline.execute()
            if added and not has_failed and count < MAX_PARTS:
                return True
            await self._redis.sadd(name, _FAILED)
        except (RedisError, OSError) as error:
            _log.warning("handover.not_recorded", error=type(error).__name__)
        return False
