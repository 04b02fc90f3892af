"""SQLite as it is, synchronous, in a few threads: each statement is one visit (docs/adr/0049).

An asynchronous driver visits its thread to make a cursor, to execute, to fetch, to close and to roll back,
and waits for the interpreter's lock each time. Here a statement's rows are fetched where it is executed,
and what needs no disk needs no visit.
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

_PATIENCE_S = 15
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # a committed key record must outlive a power cut
    "PRAGMA foreign_keys = ON",
    f"PRAGMA busy_timeout = {_PATIENCE_S * 1000}",
    "PRAGMA secure_delete = ON",  # a forgotten credential's key leaves no bytes in free pages
    "PRAGMA wal_autocheckpoint = 16384",  # 64 MiB: only where `_tidy` does not keep up
)
_TIDY_S = 1.0
# Instead of the library's AUTOCOMMIT, which ends with a PRAGMA for each connection that is given back.
_NO_BEGIN = "no_begin"
_THREADS = 4


class SqliteEngine:
    """A SQLite file's connections and the threads that visit them.

    Args:
        url: `sqlite:///path`.
    """

    def __init__(self, url: str) -> None:
        # Without a limit (0): whoever waited for a connection would keep a thread from who could return one,
        # and one over a limit would be closed where it is returned, in the event loop.
        self._writing = create_engine(
            make_url(url), connect_args={"factory": _FetchingConnection}, pool_size=0
        )
        _prepare(self._writing)
        self._reading = self._writing.execution_options(**{_NO_BEGIN: True})
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="catalog")
        self._threads = Threads(self._executor)
        # Others of this process would wait for the file's lock in the threads that its holder needs.
        self._turn = asyncio.Lock()
        self._tidying: asyncio.Task[None] | None = None
        self._tidied_at = 0.0

    @asynccontextmanager
    async def read(self) -> AsyncIterator["LazyConnection"]:
        """Open a connection on which each statement sees what is committed."""
        visited = LazyConnection(self._reading, self._threads)
        try:
            yield visited
        finally:
            visited.close()

    @asynccontextmanager
    async def write(self) -> AsyncIterator["LazyConnection"]:
        """Open a transaction, which excludes all other writers from its first statement on."""
        async with self._in_turn():
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
        """Run a whole transaction in one visit."""

        def visit() -> T:
            with self._writing.begin() as connection:
                return work(connection)

        async with self._in_turn():
            result = await self._threads.run(visit)
        self._written()
        return result

    async def close(self) -> None:
        """Close the connections; only once nobody uses one."""
        if self._tidying is not None:
            await self._tidying
        await self._threads.run(self._writing.dispose)
        self._executor.shutdown(wait=False)

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        """Exclude this process's other writers. Raises TimeoutError: they took as long as another's may."""
        async with asyncio.timeout(_PATIENCE_S):
            await self._turn.acquire()
        try:
            yield
        finally:
            self._turn.release()

    def _written(self) -> None:
        now = asyncio.get_running_loop().time()
        if (self._tidying is None or self._tidying.done()) and now - self._tidied_at >= _TIDY_S:
            self._tidied_at = now
            self._tidying = asyncio.create_task(self._tidy())

    async def _tidy(self) -> None:
        """Copy the log back into the file beside the writers, then what came meanwhile before the next one.

        Left to SQLite, the writer that finds the log long does all of it, and everybody behind it waits. When
        none of the log is left, the next writer begins it anew.
        """
        with suppress(DBAPIError, TimeoutError):  # the next one does it
            await self._threads.run(self._checkpoint)
            async with self._in_turn():
                await self._threads.run(self._checkpoint)

    def _checkpoint(self) -> None:
        with self._reading.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")


class LazyConnection:
    """A connection that is taken from the pool by its first statement."""

    def __init__(self, engine: Engine, threads: Threads) -> None:
        self._engine = engine
        self._threads = threads
        self._connection: Connection | None = None

    async def execute(self, statement: Executable, parameters: Any = None) -> Rows:  # noqa: ANN401
        """Execute a statement; its rows are in memory when this returns."""
        return await self.run_sync(lambda connection: connection.execute(statement, parameters))

    async def run_sync(self, work: Callable[[Connection], T]) -> T:
        """Run what executes any number of statements, in one visit."""

        def visit() -> T:
            if self._connection is None:
                self._connection = self._engine.connect()
            return work(self._connection)

        return await self._threads.run(visit)

    async def end(self, how: Callable[[Connection], None]) -> None:
        """Commit or roll back, if there was a statement."""
        if self._connection is not None:
            await self._threads.run(how, self._connection)

    def close(self) -> None:
        """Give the connection back, with nothing left to undo."""
        if self._connection is not None:
            self._connection.close()


class _FetchingCursor(sqlite3.Cursor):
    """Has all rows once it has executed, so that whoever reads them never waits for the disk."""

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
    def cursor(self, factory: Any = _FetchingCursor) -> Any:  # noqa: ANN401 (as the base class has it)
        return super().cursor(factory)


def _prepare(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver's implicit BEGIN would start a reader, then deadlock
        for pragma in _PRAGMAS:
            connection.execute(pragma).close()

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        if not connection.get_execution_options().get(_NO_BEGIN):
            connection.exec_driver_sql("BEGIN IMMEDIATE")
