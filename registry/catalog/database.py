"""The connection to the catalog: SQLite on one machine, PostgreSQL beyond it, one code for both."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from enum import IntEnum, unique
from importlib.resources import files
from typing import Any

from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from registry.errors import CatalogUnavailableError


@unique
class AdvisoryLock(IntEnum):
    """PostgreSQL's locks without a table; their keys stay the same from version to version.

    Whoever needs two takes them in this order.
    """

    MIGRATION = 7281903
    COLLECTION = 7281905
    QUEUE = 7281906
    APPEND = 7281904


_SQLITE_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # a committed key record must outlive a power cut
    "PRAGMA foreign_keys = ON",
    "PRAGMA busy_timeout = 15000",
    "PRAGMA secure_delete = ON",  # a forgotten credential's key leaves no bytes in free pages
)


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the present, aware, in UTC."""
        return datetime.now(UTC)


class Database:
    """A pool of connections to the catalog's database.

    Args:
        url: SQLAlchemy's asynchronous form: `sqlite+aiosqlite:///path` or `postgresql+asyncpg://...`.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection on which each statement sees what is committed."""
        with _translated():
            async with self._engine.connect() as connection:
                yield await connection.execution_options(isolation_level="AUTOCOMMIT")

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction: committed when the block ends, rolled back when it raises."""
        with _translated():
            async with self._engine.begin() as connection:
                yield connection

    @property
    def is_sqlite(self) -> bool:
        """Whether statements run on SQLite, where a transaction excludes all other writers."""
        return self._engine.dialect.name == "sqlite"

    async def exclude_collection(self, connection: AsyncConnection) -> None:
        """Keep collection from deciding until this transaction ends; call it first in the transaction.

        On SQLite a writing transaction excludes all others as it is.
        """
        if not self.is_sqlite:
            await connection.execute(
                text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": AdvisoryLock.COLLECTION}
            )

    async def collect_alone(self, connection: AsyncConnection) -> None:
        """Exclude every transaction that calls `exclude_collection` until this one ends."""
        if not self.is_sqlite:
            await connection.execute(
                text("SELECT pg_advisory_xact_lock(:key)"), {"key": AdvisoryLock.COLLECTION}
            )

    async def queue_up(self, connection: AsyncConnection) -> None:
        """Exclude others that decide by what an organization has running or has used; they do so rarely."""
        if not self.is_sqlite:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": AdvisoryLock.QUEUE})

    async def migrate(self) -> None:
        """Bring the schema to this version's; several servers may start at once."""
        async with self._engine.begin() as connection:
            if not self.is_sqlite:
                await connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"), {"key": AdvisoryLock.MIGRATION}
                )
            await connection.run_sync(_upgrade)

    async def probe(self) -> None:
        """Prove that the database answers."""
        async with self.read() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()


@contextmanager
def _translated() -> Iterator[None]:
    """Turn a database that does not answer into our own error; a driver's message may hold a row's values."""
    try:
        yield
    except (InterfaceError, OperationalError, PoolTimeoutError, OSError) as error:
        raise CatalogUnavailableError(f"the catalog does not answer ({type(error).__name__})") from None
    except DBAPIError as error:
        if type(error) is not DBAPIError:
            raise
        # What no class is for, a deadlock among them; the transaction was undone and may be repeated.
        raise CatalogUnavailableError(f"the catalog gave up ({type(error.orig).__name__})") from None


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 (a second of imports that only the first process needs)
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(files("registry.catalog") / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _engine(url: str) -> AsyncEngine:
    if not url.startswith("sqlite"):
        return create_async_engine(url, pool_size=10, max_overflow=10, pool_timeout=10, pool_pre_ping=True)
    engine = create_async_engine(url)

    @event.listens_for(engine.sync_engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:  # noqa: ANN401 (the driver's own type)
        connection.isolation_level = None  # the driver's implicit BEGIN would start a reader, then deadlock
        cursor = connection.cursor()
        for pragma in _SQLITE_PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
