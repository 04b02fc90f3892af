"""Connections to the ledger's Redis: bounded in number, in time and in retries."""

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

_SOCKET_TIMEOUT_S = 1.0
_RETRIES = 2


def connect(url: str, *, max_connections: int = 32, socket_timeout_s: float = _SOCKET_TIMEOUT_S) -> Redis:
    """Return a client of the Redis at `url`; nothing is sent yet.

    A command whose answer was lost is sent again, at most twice: every transition of the ledger gives
    its repetition the same answer.

    Args:
        url: `unix:///path/to/socket`, `redis://` or `rediss://`.
        max_connections: Callers beyond it wait for one to come free.
        socket_timeout_s: For connecting, and for each answer.
    """
    pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=5,
        socket_timeout=socket_timeout_s,
        socket_connect_timeout=socket_timeout_s,
        retry=Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.2), _RETRIES),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
        decode_responses=False,
    )
    return Redis.from_pool(pool)
