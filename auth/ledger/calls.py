"""How calls of scripts reach the ledger's server: together where one server has all keys."""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from redis.asyncio import Redis, RedisCluster

from auth.batches import Batches
from auth.ledger.connect import LedgerClient

_TOGETHER = 64  # a server that runs so many is busy for two or three milliseconds
_SINGLY = 32

Argument = bytes | str | float
Call = tuple[bytes | float, ...]


class Calls(Protocol):
    """Sends EVALSHA."""

    async def evalsha(self, sha: str, keys: Sequence[str], args: Sequence[Argument]) -> Any:  # noqa: ANN401
        """Return the script's reply. Raises RedisError or OSError, its own or that of all who went along."""

    async def aclose(self) -> None:
        """Wait until everything is answered; only once nobody calls any more."""


def calls_of(redis: LedgerClient) -> Calls:
    """Choose by what the client is connected to."""
    return _Together(redis) if isinstance(redis, Redis) else _Singly(redis)


class _Together:
    """One pipeline at a time; what comes meanwhile goes with the next (docs/adr/0180-calls-go-together.md).

    A server that syncs every write then syncs once for all of them.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._batches: Batches[Call, Any] = Batches(self._send, most=_TOGETHER, drop_cancelled=True)

    async def evalsha(self, sha: str, keys: Sequence[str], args: Sequence[Argument]) -> Any:  # noqa: ANN401
        # Encoded here, where what cannot be encoded is nobody else's failure.
        parts = (part.encode() if isinstance(part, str) else part for part in (sha, len(keys), *keys, *args))
        reply = await self._batches.do(tuple(parts))
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def aclose(self) -> None:
        await self._batches.aclose()

    async def _send(self, calls: Sequence[Call]) -> Sequence[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command("EVALSHA", *call)
        return await pipeline.execute(raise_on_error=False)


class _Singly:
    """Every call by itself: a cluster's keys lie on many servers, and one may be slow."""

    def __init__(self, redis: RedisCluster) -> None:
        self._redis = redis
        self._running = asyncio.Semaphore(_SINGLY)

    async def evalsha(self, sha: str, keys: Sequence[str], args: Sequence[Argument]) -> Any:  # noqa: ANN401
        async with self._running:
            return await self._redis.evalsha(sha, len(keys), *keys, *args)

    async def aclose(self) -> None:
        """Nothing runs that nobody awaits."""
