"""Transactions of the catalog's two engines: whole or not at all, many at once, cancelled at any moment."""

import asyncio
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, insert, select

from registry.catalog.engine import sqlite
from registry.catalog.engine.database import Database
from registry.catalog.tables import organizations
from registry.errors import CatalogUnavailableError
from tests.support.catalogs import sqlite_catalog

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def entered(name: str) -> dict[str, object]:
    return {"name": name, "created_at": NOW}


async def names(database: Database) -> list[str]:
    async with database.read() as connection:
        found = await connection.execute(select(organizations.c.name).order_by(organizations.c.name))
    return list(found.scalars())  # of a connection that was given back


async def test_many_transactions_of_several_statements_end_while_others_read(database: Database) -> None:
    async def add(number: int) -> None:
        async with database.write() as connection:
            await connection.execute(insert(organizations).values(entered(f"org-{number:02}-a")))
            await asyncio.sleep(0)
            await connection.execute(insert(organizations).values(entered(f"org-{number:02}-b")))

    async def count() -> int:
        async with database.read() as connection:
            counted = await connection.execute(select(func.count()).select_from(organizations))
            return int(counted.scalar_one())

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        counted = [group.create_task(count()) for _ in range(40)]
        for number in range(40):
            group.create_task(add(number))
    assert len(await names(database)) == 80
    assert all(task.result() % 2 == 0 for task in counted)


async def test_a_failed_transaction_leaves_nothing_and_frees_the_lock(database: Database) -> None:
    def half(connection: Connection) -> None:
        connection.execute(insert(organizations).values(entered("half")))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await database.transact(half)
    with pytest.raises(ValueError, match="no"):
        async with database.write() as connection:
            await connection.run_sync(half)
    await database.transact(lambda connection: connection.execute(insert(organizations), [entered("whole")]))
    assert await names(database) == ["whole"]


async def test_a_cancelled_transaction_leaves_nothing_and_frees_the_lock(
    database: Database,
) -> None:
    begun = asyncio.Event()

    async def for_ever() -> None:
        async with database.write() as connection:
            await connection.execute(insert(organizations).values(entered("cancelled")))
            begun.set()
            await asyncio.Event().wait()

    running = asyncio.create_task(for_ever())
    await begun.wait()
    waiting = asyncio.create_task(for_ever())
    await asyncio.sleep(0.01)
    for task in (waiting, running):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with asyncio.timeout(5), database.write() as connection:
        await connection.execute(insert(organizations).values(entered("next")))
    assert await names(database) == ["next"]


async def test_waiting_too_long_for_the_write_lock_is_catalog_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_LOCK_TIMEOUT_S", 0.1)
    database = await sqlite_catalog(tmp_path)
    async with database.write() as connection:
        await connection.execute(insert(organizations).values(entered("first")))
        with pytest.raises(CatalogUnavailableError):
            await database.transact(lambda other: other.execute(insert(organizations), [entered("second")]))
    await database.transact(lambda other: other.execute(insert(organizations), [entered("third")]))
    assert await names(database) == ["first", "third"]
    await database.close()


async def test_a_transaction_without_a_statement_is_none(database: Database) -> None:
    async with database.write():
        pass
    async with database.read():
        pass
    assert await names(database) == []


async def test_the_write_ahead_log_is_checkpointed_beside_the_writers(tmp_path: Path) -> None:
    database = await sqlite_catalog(tmp_path)
    log = tmp_path / "catalog.db-wal"
    begun: list[int] = []
    written = 0
    async with asyncio.timeout(60):
        while len(begun) < 4:
            row = entered(f"org-{written}")
            await database.transact(
                partial(Connection.execute, statement=insert(organizations), parameters=[row])
            )
            written += 1
            if (times := _times_begun(log)) not in begun:
                begun.append(times)
    assert log.stat().st_size < 64 << 20  # where the writers themselves would have copied it
    await database.close()
    assert len(await _names_of(tmp_path / "catalog.db")) == written


def _times_begun(log: Path) -> int:
    """Return how often a write-ahead log was restarted, which happens when it is fully copied back.

    The "checkpoint sequence number" of the log's header (SQLite's file format, 4.1).
    """
    with log.open("rb") as header:
        header.seek(12)
        return int.from_bytes(header.read(4), "big")


async def _names_of(file: Path) -> list[str]:
    database = Database(f"sqlite:///{file}")
    try:
        return await names(database)
    finally:
        await database.close()
