"""How often callers ask, across all servers."""

from typing import Final

import structlog
from redis.exceptions import RedisError

from auth.ledger import LedgerClient

# The generic cell rate algorithm (ITU-T I.371): one number a caller, the time at which it is even again.
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
    """A rate for each caller, as `rate:{<caller>}`; a minute's worth may come at once.

    Args:
        per_minute: Requests that one caller has in a minute.
    """

    def __init__(self, redis: LedgerClient, per_minute: int) -> None:
        self._redis = redis
        self._interval_ms = 60_000 / per_minute

    async def take(self, caller: str) -> float:
        """Count one request; return the seconds that this caller has to wait first, 0 for none.

        A Redis that does not answer holds nobody back: a rate is for fairness, and secures nothing.
        """
        try:
            wait_ms = await self._redis.eval(_TAKE, 1, f"rate:{{{caller}}}", self._interval_ms, 60_000)
        except (RedisError, OSError) as error:
            _log.warning("rates.uncounted", error=type(error).__name__)
            return 0.0
        return int(wait_ms) / 1000
