"""Connections to the ledger's Redis, with limits on number, time and retries."""

from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from auth.ledger.address import LedgerAddress, Topology

LedgerClient = Redis | RedisCluster

_SOCKET_TIMEOUT_S = 1.0
_RETRIES = 2
_SPARE = 4  # connections beyond the number of callers, for a pool that does not queue callers


def connect(
    url: str, *, max_connections: int = 48, socket_timeout_s: float = _SOCKET_TIMEOUT_S
) -> LedgerClient:
    """Return a client for the ledger at `url`. Sends nothing yet.

    A command whose reply was lost is retried at most twice. This is safe, because all transitions of the
    ledger are idempotent.

    Args:
        url: In the form of `LedgerAddress.parse`.
        max_connections: Maximum number of connections; further callers wait.
        socket_timeout_s: Time-out for connecting, and for each reply.

    Raises:
        LedgerAddressError: The URL is invalid.
    """
    address = LedgerAddress.parse(url)
    common: dict[str, Any] = {
        "socket_timeout": socket_timeout_s,
        "socket_connect_timeout": socket_timeout_s,
        "decode_responses": False,
    }
    if address.topology is Topology.SINGLE:
        pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
            url, max_connections=max_connections, timeout=5, **_retrying(), **common
        )
        return Redis.from_pool(pool)
    common |= _tls(address)
    if address.topology is Topology.CLUSTER:
        return RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in address.hosts],
            username=address.username,
            password=address.password,
            max_connections=max_connections * _SPARE,
            retry=_retrying()["retry"],
            **common,
        )
    return _behind_sentinels(address, max_connections, common)


class _Primary(Redis):
    """Client of the primary in Sentinel. Closing it also closes the connections to the sentinels."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001 (as the base)
        """Close all connections."""
        await super().aclose(close_connection_pool)
        pool = self.connection_pool
        if isinstance(pool, SentinelConnectionPool):
            for sentinel in pool.sentinel_manager.sentinels:
                await sentinel.aclose()


def _behind_sentinels(address: LedgerAddress, max_connections: int, common: dict[str, Any]) -> Redis:
    sentinels = Sentinel(  # type: ignore[no-untyped-call]
        list(address.hosts),
        sentinel_kwargs={
            **common,
            "username": address.options.get("sentinel_username"),
            "password": address.options.get("sentinel_password"),
        },
    )
    primary: Redis = sentinels.master_for(
        address.service,
        _Primary,
        username=address.username,
        password=address.password,
        max_connections=max_connections * _SPARE,
        **_retrying(),
        **common,
    )
    return primary


def _retrying() -> dict[str, Any]:
    return {
        "retry": Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.2), _RETRIES),
        "retry_on_error": [RedisConnectionError, RedisTimeoutError],
    }


def _tls(address: LedgerAddress) -> dict[str, Any]:
    if not address.tls:
        return {}
    files = {name: value for name, value in address.options.items() if name.startswith("ssl_")}
    return {"ssl": True, **files}
