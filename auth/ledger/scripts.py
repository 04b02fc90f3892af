"""Loading and running of the Lua scripts, with a time-out and translation of errors."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.resources import files
from typing import Any

from redis.asyncio import RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AskError, MovedError, NoScriptError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from auth.errors import LedgerUnavailableError
from auth.ledger.calls import Argument, calls_of
from auth.ledger.connect import LedgerClient

_FOLDER = files("auth.ledger") / "scripts"
_WAITING = 16  # calls that wait for replicas must leave connections to others
_ATTEMPTS = 3
_PASSING = (RedisConnectionError, RedisTimeoutError, MovedError, AskError)


class Script:
    """Text and hash of one script."""

    def __init__(self, name: str, *, prelude: str = "") -> None:
        parts = [*([prelude] if prelude else []), name]
        self.text = "\n".join((_FOLDER / f"{part}.lua").read_text() for part in parts)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class ScriptRunner:
    """Runs scripts on one ledger. Raises `LedgerUnavailableError` for all failures.

    Args:
        redis: Client that returns bytes, with limited connections and time-outs (`ledger.connect`).
        timeout_s: Time-out for one call, including retries.
        replicas: Number of replicas that must have the writes of `run_durably`.
        replicas_timeout_s: Seconds to wait for them.
    """

    def __init__(
        self, redis: LedgerClient, *, timeout_s: float, replicas: int = 0, replicas_timeout_s: float = 10
    ) -> None:
        self._redis = redis
        self._timeout_s = timeout_s
        self._replicas = replicas
        self._replicas_timeout_s = replicas_timeout_s
        self._calls = calls_of(redis)
        self._waiting = asyncio.Semaphore(_WAITING)

    async def run(self, script: Script, keys: list[str], *args: Argument) -> Any:  # noqa: ANN401
        """Run a script and return its reply.

        If the server does not have the script (after a restart, SCRIPT FLUSH or failover), the text is sent,
        which costs one more round trip.

        Raises:
            LedgerUnavailableError: There is no reply, or an error; nothing may be granted.
        """
        with _cancellation_kept():
            try:
                async with asyncio.timeout(self._timeout_s):
                    try:
                        return await self._calls.evalsha(script.sha, keys, args)
                    except NoScriptError:
                        return await self._redis.eval(script.text, len(keys), *keys, *args)
            except (RedisError, OSError, RuntimeError) as error:  # TimeoutError is an OSError
                raise _unavailable(error) from error

    async def run_durably(self, script: Script, keys: list[str], *args: Argument) -> Any:  # noqa: ANN401
        """Run a script, and wait until the required replicas have its writes and those it read.

        Raises:
            LedgerUnavailableError: As for `run`; or the replicas did not follow in time. The write remains,
                and the call can be repeated.
        """
        if self._replicas == 0:
            return await self.run(script, keys, *args)
        with _cancellation_kept():
            try:
                async with asyncio.timeout(self._timeout_s + self._replicas_timeout_s):
                    return await self._persist(script, keys, args)
            except (RedisError, OSError, RuntimeError) as error:
                raise _unavailable(error) from error

    async def aclose(self) -> None:
        """Wait for all replies. Call only after the last call."""
        await self._calls.aclose()

    async def _persist(self, script: Script, keys: list[str], args: tuple[Argument, ...]) -> Any:  # noqa: ANN401
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with self._connection(keys[0]) as connection:
                    reply = await self._evaluate(connection, script, keys, args)
                    await self._await_replicas(connection)
                    return reply
            except _PASSING:
                if attempt == _ATTEMPTS:
                    raise
                if isinstance(self._redis, RedisCluster):
                    await self._redis.exists(keys[0])  # follows a slot that has moved
        raise AssertionError("unreachable")  # pragma: no cover

    async def _evaluate(
        self, connection: AbstractConnection, script: Script, keys: list[str], args: tuple[Argument, ...]
    ) -> Any:  # noqa: ANN401
        await connection.send_command("EVALSHA", script.sha, len(keys), *keys, *args)
        try:
            return await connection.read_response()
        except NoScriptError:
            await connection.send_command("EVAL", script.text, len(keys), *keys, *args)
            return await connection.read_response()

    async def _await_replicas(self, connection: AbstractConnection) -> None:
        """Send WAIT on the connection that wrote, because it waits for that connection's writes."""
        await connection.send_command("WAIT", self._replicas, round(self._replicas_timeout_s * 1000))
        followed = await connection.read_response(timeout=self._replicas_timeout_s + 1)
        if followed < self._replicas:
            raise LedgerUnavailableError(
                f"only {followed} of {self._replicas} required replicas follow the token ledger"
            )

    @asynccontextmanager
    async def _connection(self, key: str) -> AsyncIterator[AbstractConnection]:
        """Borrow a connection to the primary of a key. Close it after any error: a reply may come."""
        async with self._waiting:
            if isinstance(self._redis, RedisCluster):
                await self._redis.initialize()
                node = self._redis.get_node_from_key(key)
                if node is None:
                    raise RedisConnectionError("no node holds this slot")
                connection: AbstractConnection = node.acquire_connection()
                try:
                    async with _closed_on_error(connection):
                        yield connection
                finally:
                    node.release(connection)  # type: ignore[arg-type]
                return
            pool = self._redis.connection_pool
            connection = await pool.get_connection()  # type: ignore[no-untyped-call]
            try:
                async with _closed_on_error(connection):
                    yield connection
            finally:
                await pool.release(connection)


@contextmanager
def _cancellation_kept() -> Iterator[None]:
    """Raise CancelledError if the task was cancelled in the block, and the client lost the cancellation.

    A connection that is being opened when its caller is cancelled can fail with another error instead. A
    background task would then never end.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        yield
    except Exception:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError from None
        raise
    if task and task.cancelling() > before:
        raise asyncio.CancelledError


@asynccontextmanager
async def _closed_on_error(connection: AbstractConnection) -> AsyncIterator[None]:
    try:
        yield
    except BaseException:
        await connection.disconnect(nowait=True)
        raise


def _unavailable(error: Exception) -> LedgerUnavailableError:
    return LedgerUnavailableError(f"the token ledger does not answer ({type(error).__name__})")
