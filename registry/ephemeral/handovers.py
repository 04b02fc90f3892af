"""Which parts of layers sessions were sent elsewhere for, shared by all servers."""

from typing import Final

import structlog
from redis.exceptions import RedisError

from auth.ledger import LedgerClient

_TTL_S: Final = 3600
_log = structlog.get_logger(__name__)


class RedisHandovers:
    """Keys `handover:{<session>}:<part>`, which expire after an hour."""

    def __init__(self, redis: LedgerClient) -> None:
        self._redis = redis

    async def is_first(self, session: str, part: str) -> bool:
        """Record that a session asks for a part. Returns whether it is the first time.

        Returns False if Redis does not answer: sending the bytes from here is always right.
        """
        try:
            name = f"handover:{{{session}}}:{part}"
            return bool(await self._redis.set(name, b"", ex=_TTL_S, nx=True))
        except (RedisError, OSError) as error:
            _log.warning("handover.not_recorded", error=type(error).__name__)
            return False
