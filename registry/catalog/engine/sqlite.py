"""Synchronous SQLite in a few worker threads, with one thread call per statement (docs/adr/0049).

An asynchronous driver calls its thread to create a cursor, to execute, to fetch, to close and to roll back,
and waits for the interpreter's lock each time. Here one call executes a statement and fetches its rows, and
operations without disk access need no call.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Connection, CursorResult, Engine, Executable, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError

from storage.threads import Threads

T = TypeVar("T")

Rows: TypeAlias = CursorResult[*tuple[Any, ...]]

_LOCK_TIMEOUT_S = 15
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # a committed key record must survive a power failure
    "PRAGMA foreign_keys = ON",
    f"PRAGMA busy_timeout = {_LOCK_TIMEOUT_S * 1000}",
    "PRAGMA secure_delete = ON",  # no bytes of a deleted credential's key remain in free pages
    "PRAGMA wal_autocheckpoint = 16384",  # 64 MiB: only if `_run_checkpoints` is too slow
)
_CHECKPOINT_S = 1.0
# Instead of the library's AUTOCOMMIT, which executes a PRAGMA for each returned connection.
_NO_BEGIN = "no_begin"
_THREADS = 4


class SqliteEngine:
    """Connections to a SQLite file and the worker threads that use them.

    Args:
        url: `sqlite:///path`.
    """

    def __init__(self, url: str) -> None:
        # Unlimited (0): waiting for a connection would block a thread that is needed to return one, and a
        # connection over the limit would be closed in the event loop, which returns it.
        self._writing = create_engine(
            make_url(url), connect_args={"factory": _FetchingConnection}, pool_size=0
        )
        _prepare(self._writing)
        self._reading = self._writing.execution_options(**{_NO_BEGIN: True})
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="catalog")
        self._threads = Threads(self._executor)
        # Without this lock, waiting writers would block the threads that the current writer needs.
        self._lock = asyncio.Lock()
        self._checkpoints: asyncio.Task[None] | None = None
        self._checkpointed_at = 0.0

    @asynccontextmanager
    async def read(self) -> AsyncIterator["LazyConnection"]:
        """Open a connection on which each statement sees all committed changes."""
        visited = LazyConnection(self._reading, self._threads)
        try:
            yield visited
        finally:
            visited.close()

    @asynccontextmanager
    async def write(self) -> AsyncIterator["LazyConnection"]:
        """Open a transaction, which excludes all other writers from its first statement."""
        async with self._write_lock():
            visited = LazyConnection(self._writing, self._threads)
            try:
                yield visited
                await visited.end(Connection.commit)
            except BaseException:
                await visited.end(Connection.rollback)
                raise
            finally:
                visited.close()
        self._written()

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Run a whole transaction in one thread call."""

        def visit() -> T:
            with self._writing.begin() as connection:
                return work(connection)

        async with self._write_lock():
            result = await self._threads.run(visit)
        self._written()
        return result

    async def close(self) -> None:
        """Close the connections. Call it when none is in use."""
        if self._checkpoints is not None:
            await self._checkpoints
        await self._threads.run(self._writing.dispose)
        self._executor.shutdown(wait=False)

    @asynccontextmanager
    async def _write_lock(self) -> AsyncIterator[None]:
        """Exclude other writers of this process. Raises TimeoutError: they held the lock too long."""
        async with asyncio.timeout(_LOCK_TIMEOUT_S):
            await self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def _written(self) -> None:
        now = asyncio.get_running_loop().time()
        is_running = self._checkpoints is not None and not self._checkpoints.done()
        if not is_running and now - self._checkpointed_at >= _CHECKPOINT_S:
            self._checkpointed_at = now
            self._checkpoints = asyncio.create_task(self._run_checkpoints())

    async def _run_checkpoints(self) -> None:
        """Checkpoint the WAL: first concurrently with writers, then the rest while writers wait.

        SQLite's automatic checkpoint runs within a write, and all later writers wait for it. After a complete
        checkpoint, the next writer starts the WAL from its beginning.
        """
        with suppress(DBAPIError, TimeoutError):  # the next checkpoint copies the rest
            await self._threads.run(self._checkpoint)
            async with self._write_lock():
                await self._threads.run(self._checkpoint)

    def _checkpoint(self) -> None:
        with self._reading.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")


class LazyConnection:
    """Connection that is taken from the pool at the first statement."""

    def __init__(self, engine: Engine, threads: Threads) -> None:
        self._engine = engine
        self._threads = threads
        self._connection: Connection | None = None

    async def execute(self, statement: Executable, parameters: Any = None) -> Rows:  # noqa: ANN401
        """Execute a statement and fetch all its rows."""
        return await self.run_sync(lambda connection: connection.execute(statement, parameters))

    async def run_sync(self, work: Callable[[Connection], T]) -> T:
        """Run a function that executes several statements, in one thread call."""

        def visit() -> T:
            if self._connection is None:
                self._connection = self._engine.connect()
            return work(self._connection)

        return await self._threads.run(visit)

    async def end(self, how: Callable[[Connection], None]) -> None:
        """Commit or roll back, if a statement was executed."""
        if self._connection is not None:
            await self._threads.run(how, self._connection)

    def close(self) -> None:
        """Return the connection to the pool. Call `end` before."""
        if self._connection is not None:
            self._connection.close()


class _FetchingCursor(sqlite3.Cursor):
    """Cursor that fetches all rows when it executes, so that reading them never blocks on the disk."""

    _rows: Iterator[Any] = iter(())

    def execute(self, sql: str, parameters: Any = (), /) -> "_FetchingCursor":  # noqa: ANN401
        super().execute(sql, parameters)
        self._rows = iter(super().fetchall()) if self.description else iter(())
        return self

    def fetchone(self) -> Any:  # noqa: ANN401
        return next(self._rows, None)

    def fetchmany(self, size: int | None = None) -> list[Any]:
        return [row for _, row in zip(range(size or self.arraysize), self._rows, strict=False)]

    def fetchall(self) -> list[Any]:
        return list(self._rows)


class _FetchingConnection(sqlite3.Connection):
    def cursor(self, factory: Any = _FetchingCursor) -> Any:  # noqa: ANN401 (as in the base class)
        return super().cursor(factory)


def _prepare(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver's implicit BEGIN can lead to deadlocks
        for pragma in _PRAGMAS:
            connection.execute(pragma).close()

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        if not connection.get_execution_options().get(_NO_BEGIN):
            connection.exec_driver_sql("BEGIN IMMEDIATE")
