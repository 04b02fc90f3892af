"""The connection to the catalog: SQLite on one machine, PostgreSQL beyond it, one code for both."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from enum import IntEnum, unique
from importlib.resources import files
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Executable, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from registry.catalog.engine.sqlite import Rows, SqliteEngine
from registry.errors import CatalogUnavailableError

T = TypeVar("T")


@unique
class AdvisoryLock(IntEnum):
    """PostgreSQL's locks without a table; their keys stay the same from version to version.

    Whoever needs two takes them in this order.
    """

    MIGRATION = 7281903
    COLLECTION = 7281905
    QUEUE = 7281906
    APPEND = 7281904


class CatalogConnection(Protocol):
    """What `Database.read` and `Database.write` open."""

    async def execute(self, statement: Executable, parameters: Any = None, /) -> Rows:  # noqa: ANN401
        """Execute a statement; its rows are in memory when this returns."""

    async def run_sync(self, work: Callable[[Connection], T], /) -> T:
        """Run what executes several statements: on SQLite as quick as one."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the present, aware, in UTC."""
        return datetime.now(UTC)


class Database:
    """A pool of connections to the catalog's database.

    Args:
        url: In SQLAlchemy's form: `sqlite:///path` or `postgresql+asyncpg://...`.
    """

    def __init__(self, url: str) -> None:
        self._engine: SqliteEngine | _ServerEngine = (
            SqliteEngine(url) if url.startswith("sqlite") else _ServerEngine(url)
        )

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file on this machine."""
        return isinstance(self._engine, SqliteEngine)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[CatalogConnection]:
        """Open a connection on which each statement sees what is committed."""
        with _translated():
            async with self._engine.read() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[CatalogConnection]:
        """Open a transaction: committed when the block ends, rolled back when it raises."""
        with _translated():
            async with self._engine.write() as connection:
                yield connection

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Run a whole transaction, committed when `work` returns: on SQLite as quick as one statement.

        Where the caller is cancelled it may still be committed, as it may where a server's answer is lost.
        """
        with _translated():
            return await self._engine.transact(work)

    async def collect_alone(self, connection: CatalogConnection) -> None:
        """Exclude every transaction that calls `exclude_collection` until this one ends."""
        if not self.is_sqlite:
            await connection.execute(
                text("SELECT pg_advisory_xact_lock(:key)"), {"key": AdvisoryLock.COLLECTION}
            )

    async def queue_up(self, connection: CatalogConnection) -> None:
        """Exclude others that decide by what an organization has running or has used; they do so rarely."""
        if not self.is_sqlite:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": AdvisoryLock.QUEUE})

    async def migrate(self) -> None:
        """Bring the schema to this version's; several servers may start at once."""
        await self.transact(_upgrade)

    async def probe(self) -> None:
        """Prove that the database answers."""
        async with self.read() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.close()


def exclude_collection(connection: Connection) -> None:
    """Keep collection from deciding until this transaction ends; call it first in the transaction.

    On SQLite a writing transaction excludes all others as it is.
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
    """Turn a database that does not answer into our own error; a driver's message may hold a row's values."""
    try:
        yield
    except (InterfaceError, OperationalError, PoolTimeoutError, OSError, sqlite3.Error) as error:
        raise CatalogUnavailableError(f"the catalog does not answer ({type(error).__name__})") from None
    except DBAPIError as error:
        if type(error) is not DBAPIError:
            raise
        # What no class is for, a deadlock among them; the transaction was undone and may be repeated.
        raise CatalogUnavailableError(f"the catalog gave up ({type(error.orig).__name__})") from None


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 (a second of imports that only the first process needs)
    from alembic.config import Config  # noqa: PLC0415

    if connection.dialect.name != "sqlite":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": AdvisoryLock.MIGRATION})
    config = Config()
    config.set_main_option("script_location", str(files("registry.catalog") / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
