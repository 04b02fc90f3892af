"""Connections to the catalog's database: SQLite for one machine, PostgreSQL for several."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from enum import IntEnum, unique
from functools import partial
from importlib.resources import files
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Executable, text
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from registry.catalog.engine.sqlite import Rows, SqliteEngine
from registry.errors import CatalogUnavailableError

T = TypeVar("T")
# InternalError: the server ended the transaction, for example because it stops or recovers from a crash.
_OUTAGES = (InterfaceError, InternalError, OperationalError, PoolTimeoutError, OSError, sqlite3.Error)


@unique
class AdvisoryLock(IntEnum):
    """Keys of PostgreSQL advisory locks. They must not change between versions.

    A transaction that needs two locks takes them in this order.
    """

    MIGRATION = 7281903
    COLLECTION = 7281905
    QUEUE = 7281906
    APPEND = 7281904


class CatalogConnection(Protocol):
    """Connection that `Database.read` and `Database.write` open."""

    async def execute(self, statement: Executable, parameters: Any = None, /) -> Rows:  # noqa: ANN401
        """Execute a statement; its rows are in memory when this returns."""

    async def run_sync(self, work: Callable[[Connection], T], /) -> T:
        """Run a function that executes several statements. On SQLite this costs one thread call."""


class SystemClock:
    """Clock of this machine."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        return datetime.now(UTC)


class Database:
    """A pool of connections to the catalog's database.

    Args:
        url: Database URL for SQLAlchemy: `sqlite:///path` or `postgresql+asyncpg://...`.
    """

    def __init__(self, url: str) -> None:
        self._engine: SqliteEngine | _ServerEngine = (
            SqliteEngine(url) if url.startswith("sqlite") else _ServerEngine(url)
        )

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is SQLite."""
        return isinstance(self._engine, SqliteEngine)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[CatalogConnection]:
        """Open a connection on which each statement sees all committed changes."""
        with _translated():
            async with self._engine.read() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[CatalogConnection]:
        """Open a transaction, which is committed at the end of the block or rolled back if it raises."""
        with _translated():
            async with self._engine.write() as connection:
                yield connection

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction and commit it. On SQLite this costs one thread call.

        After a cancellation or a lost connection, the transaction may still be committed.
        """
        with _translated():
            return await self._engine.transact(work)

    async def collect_alone(self, connection: CatalogConnection) -> None:
        """Exclude all transactions that call `exclude_collection` until this one ends."""
        if not self.is_sqlite:
            await connection.execute(
                text("SELECT pg_advisory_xact_lock(:key)"), {"key": AdvisoryLock.COLLECTION}
            )

    async def queue_up(self, connection: CatalogConnection) -> None:
        """Serialize the rare transactions that decide by an organization's running jobs or usage."""
        if not self.is_sqlite:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": AdvisoryLock.QUEUE})

    async def migrate(self, revision: str = "head") -> None:
        """Upgrade the schema to this version's. Several servers may call this at the same time."""
        await self.transact(partial(_upgrade, revision=revision))

    async def rewrite_files(self, *tables: str) -> None:
        """Rewrite the files of tables, so that they no longer contain deleted or overwritten rows.

        On SQLite this rewrites the whole file and its WAL. On PostgreSQL it locks the tables; the server's
        WAL, its replicas and its backups still contain earlier content.
        """
        statements = [f"VACUUM FULL {table}" for table in tables]
        if self.is_sqlite:
            statements = ["VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"]
        async with self.read() as connection:
            for statement in statements:
                await connection.execute(text(statement))

    async def probe(self) -> None:
        """Check that the database responds."""
        async with self.read() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.close()


def exclude_collection(connection: Connection) -> None:
    """Exclude garbage collection until this transaction ends. Call it first in the transaction.

    On SQLite this is not needed, because a writing transaction excludes all others.
    """
    if connection.dialect.name != "sqlite":
        connection.execute(
            text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": AdvisoryLock.COLLECTION}
        )


class _ServerEngine:
    """PostgreSQL's connections."""

    def __init__(self, url: str) -> None:
        self._writing = create_async_engine(
            url, pool_size=10, max_overflow=10, pool_timeout=10, pool_pre_ping=True
        )
        self._reading = self._writing.execution_options(isolation_level="AUTOCOMMIT")

    def read(self) -> AbstractAsyncContextManager[AsyncConnection]:
        return self._reading.connect()

    def write(self) -> AbstractAsyncContextManager[AsyncConnection]:
        return self._writing.begin()

    async def transact(self, work: Callable[[Connection], T]) -> T:
        async with self._writing.begin() as connection:
            return await connection.run_sync(work)

    async def close(self) -> None:
        await self._writing.dispose()


@contextmanager
def _translated() -> Iterator[None]:
    """Translate database errors. Their messages are omitted, because they may contain a row's values."""
    try:
        yield
    except _OUTAGES as error:
        raise CatalogUnavailableError(f"the catalog does not respond ({type(error).__name__})") from None
    except DBAPIError as error:
        if type(error) is not DBAPIError:
            raise
        # Errors without a class, for example a deadlock: the transaction was rolled back and can be retried.
        name = type(error.orig).__name__
        raise CatalogUnavailableError(f"the catalog aborted a transaction ({name})") from None


def _upgrade(connection: Connection, revision: str) -> None:
    from alembic import command  # noqa: PLC0415 (takes a second, and is only needed for a migration)
    from alembic.config import Config  # noqa: PLC0415

    if connection.dialect.name != "sqlite":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": AdvisoryLock.MIGRATION})
    config = Config()
    config.set_main_option("script_location", str(files("registry.catalog") / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
