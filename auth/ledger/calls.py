"""Transport of script calls to Redis, in pipelines if one server has all keys."""

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Protocol

from hiredis import pack_command
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from auth.coalescer import Coalescer
from auth.ledger.connect import LedgerClient

_TOGETHER = 64  # a batch of this size keeps the server busy for two or three milliseconds
_SINGLY = 32

Argument = bytes | str | float
Call = tuple[bytes | float, ...]


class Calls(Protocol):
    """Sender of EVALSHA commands."""

    async def evalsha(self, sha: str, keys: Sequence[str], args: Sequence[Argument]) -> Any:  # noqa: ANN401
        """Run a script and return its reply. Raises RedisError or OSError, also for a whole pipeline."""

    async def aclose(self) -> None:
        """Wait for all replies. Call only after the last `evalsha`."""


def calls_of(redis: LedgerClient) -> Calls:
    """Return the transport for a client: pipelines, or single calls for a cluster."""
    return _PipelinedCalls(redis) if isinstance(redis, Redis) else _SingleCalls(redis)


class _PipelinedCalls:
    """Sends calls in pipelines, one at a time; calls that arrive meanwhile form the next pipeline.

    A server that syncs every write to disk then syncs once per pipeline. The connection is kept, because
    borrowing one from the pool costs as much as the pipeline (docs/adr/0048-ledger-pipelining.md).
    """

    def __init__(self, redis: Redis) -> None:
        self._pool = redis.connection_pool
        self._connection: AbstractConnection | None = None
        self._batches: Coalescer[Call, Any] = Coalescer(self._send, most=_TOGETHER, drop_cancelled=True)

    async def evalsha(self, sha: str, keys: Sequence[str], args: Sequence[Argument]) -> Any:  # noqa: ANN401
        # Encode here, so that an argument that cannot be encoded fails only its own call.
        parts = (part.encode() if isinstance(part, str) else part for part in (sha, len(keys), *keys, *args))
        reply = await self._batches.do(tuple(parts))
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def aclose(self) -> None:
        await self._batches.aclose()
        if self._connection is not None:
            await self._pool.release(self._connection)

    async def _send(self, calls: Sequence[Call]) -> Sequence[Any]:
        packed = [pack_command(("EVALSHA", *call)) for call in calls]  # type: ignore[arg-type]
        connection = await self._ready()
        try:
            return await connection.retry.call_with_retry(
                lambda: _ask(connection, packed), lambda _: connection.disconnect(nowait=True)
            )
        except BaseException:  # outstanding replies must not be taken for those of the next calls
            await connection.disconnect(nowait=True)
            raise

    async def _ready(self) -> AbstractConnection:
        """Return a connection without unread data. Reconnects if the server has closed it."""
        if self._connection is None:
            self._connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        else:
            await self._pool.ensure_connection(self._connection)
        return self._connection


async def _ask(connection: AbstractConnection, packed: Sequence[bytes]) -> Sequence[Any]:
    """Send commands and return their replies, including errors, within one time-out."""
    try:
        async with asyncio.timeout(connection.socket_timeout):
            await connection.send_packed_command(packed)
            return [await _reply(connection) for _ in packed]
    except TimeoutError:
        raise RedisTimeoutError("no answer in time") from None


async def _reply(connection: AbstractConnection) -> Any:  # noqa: ANN401
    try:
        reply = await connection.read_response(timeout=math.inf)
    except ResponseError as error:
        return error
    if reply is None:  # the client library's result for ETIMEDOUT; no script returns nil
        raise RedisTimeoutError("the connection timed out")
    return reply


class _SingleCalls:
    """Sends each call separately, because a cluster's keys are on several servers, and one may be slow."""

    def __init__(self, redis: RedisCluster) -> None:
        self._redis = redis
        self._running = asyncio.Semaphore(_SINGLY)

    async def evalsha(self, sha: str, keys: Sequence[str], args: Sequence[Argument]) -> Any:  # noqa: ANN401
        async with self._running:
            return await self._redis.evalsha(sha, len(keys), *keys, *args)

    async def aclose(self) -> None:
        """Do nothing: callers await all calls."""
