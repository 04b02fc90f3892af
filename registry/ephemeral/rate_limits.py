"""Rate limits of callers, shared by all servers."""

from typing import Final

import structlog
from redis.exceptions import RedisError

from auth.ledger import LedgerClient

# Generic cell rate algorithm (ITU-T I.371). It stores one number per caller, the theoretical arrival time.
_TAKE: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local even = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
local wait = even + interval - burst - now
if wait > 0 then
  return math.ceil(wait)
end
even = even + interval
redis.call('SET', KEYS[1], string.format('%.3f', even), 'PX', math.ceil(even - now) + 1000)
return 0
"""
_log = structlog.get_logger(__name__)


class RedisRateLimiter:
    """Limits the rate of each caller, as `rate:{<caller>}`. A burst of one minute's requests is allowed.

    Args:
        per_minute: Allowed requests of one caller per minute.
    """

    def __init__(self, redis: LedgerClient, per_minute: int = 1) -> None:
        self._redis = redis
        self._per_minute = per_minute

    async def take(self, caller: str, per_minute: int | None = None) -> float:
        """Count one request. Returns the seconds that the caller must wait; 0 if the request is allowed.

        Args:
            per_minute: Allowed requests of this caller, if not those of all callers.

        Allows all requests if Redis does not answer, because the limit is for fairness, not for security.
        """
        interval_ms = 60_000 / (per_minute or self._per_minute)
        try:
            wait_ms = await self._redis.eval(_TAKE, 1, f"rate:{{{caller}}}", interval_ms, 60_000)
        except (RedisError, OSError) as error:
            _log.warning("rate_limit.skipped", error=type(error).__name__)
            return 0.0
        return int(wait_ms) / 1000
