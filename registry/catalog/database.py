"""The connection to the catalog: SQLite on one machine, PostgreSQL beyond it, one code for both."""

from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from enum import IntEnum, unique
from importlib.resources import files
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from registry.errors import CatalogUnavailableError
from storage.threads import Threads

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


_SQLITE_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # a committed key record must outlive a power cut
    "PRAGMA foreign_keys = ON",
    "PRAGMA busy_timeout = 15000",
    "PRAGMA secure_delete = ON",  # a forgotten credential's key leaves no bytes in free pages
)
_AUTOCOMMIT = {"isolation_level": "AUTOCOMMIT"}
_THREADS = 4


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
        self._threaded = _Threaded(url) if self.is_sqlite else None

    async def query(self, work: Callable[[Connection], T]) -> T:
        """Run statements that only read, on a connection on which each sees what is committed.

        Quicker than `read` where they are asked for often: on SQLite all of them are one visit to a thread,
        not one each (docs/adr/0181-hot-statements-in-one-visit.md).
        """
        with _translated():
            if self._threaded is not None:
                return await self._threaded.query(work)
            async with self._engine.connect() as connection:
                return await (await connection.execution_options(**_AUTOCOMMIT)).run_sync(work)

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Run statements in a transaction that is committed when `work` returns; as quick as `query`.

        A caller who is cancelled waits until it has ended; it is not undone.
        """
        with _translated():
            if self._threaded is not None:
                return await self._threaded.transact(work)
            async with self._engine.begin() as connection:
                return await connection.run_sync(work)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection on which each statement sees what is committed."""
        with _translated():
            async with self._engine.connect() as connection:
                yield await connection.execution_options(**_AUTOCOMMIT)

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
        """Do what `exclude_collection` does within `transact`."""
        await connection.run_sync(exclude_collection)

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
        if self._threaded is not None:
            self._threaded.close()


def exclude_collection(connection: Connection) -> None:
    """Keep collection from deciding until this transaction ends; call it first in the transaction.

    On SQLite a writing transaction excludes all others as it is.
    """
    if connection.dialect.name != "sqlite":
        connection.execute(
            text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": AdvisoryLock.COLLECTION}
        )


class _Threaded:
    """SQLite as it is: synchronous, in threads of its own."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(make_url(url).set(drivername="sqlite"))
        _prepare_sqlite(self._engine)
        self._reading = self._engine.execution_options(**_AUTOCOMMIT)
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="catalog")
        self._threads = Threads(self._executor)

    async def query(self, work: Callable[[Connection], T]) -> T:
        return await self._threads.run(self._run, self._reading.connect, work)

    async def transact(self, work: Callable[[Connection], T]) -> T:
        return await self._threads.run(self._run, self._engine.begin, work)

    def close(self) -> None:
        self._executor.shutdown()
        self._engine.dispose()

    @staticmethod
    def _run(opened: Callable[[], AbstractContextManager[Connection]], work: Callable[[Connection], T]) -> T:
        with opened() as connection:
            return work(connection)


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
    _prepare_sqlite(engine.sync_engine)
    return engine


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:  # noqa: ANN401 (the driver's own type)
        connection.isolation_level = None  # the driver's implicit BEGIN would start a reader, then deadlock
        cursor = connection.cursor()
        for pragma in _SQLITE_PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
