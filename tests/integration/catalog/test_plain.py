"""What every redemption waits for, executed by SQLite's driver alone: the same rows, and the same errors."""

import asyncio
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from sqlite3 import connect

import pytest
from sqlalchemy import insert, select

from registry.catalog.engine.database import Database
from registry.catalog.engine.plain import PlainInsert, PlainSelect
from registry.catalog.tables import events, nodes
from registry.errors import CatalogUnavailableError
from tests.support.catalogs import sqlite_catalog

AT = datetime(2026, 1, 1, 12, 30, 0, 250_000, tzinfo=UTC)
BY_ID = PlainSelect(nodes, nodes.c.node_id)
AT_ONCE = PlainInsert(events)


def node(node_id: str, **fields: object) -> dict[str, object]:
    usual: dict[str, object] = {"binding": "secret", "networks": []}
    usual |= dict.fromkeys(("secret_hash", "revoked_at", "reads_zstd"))
    return {"node_id": node_id, "created_at": AT, **usual, **fields}


def event(type_: str, **fields: object) -> dict[str, object]:
    nothing = dict.fromkeys(("organization", "token_id", "node_id", "cause", "source"))
    return {"at": AT, "type": type_, "detail": {}, **nothing, **fields}


async def types(database: Database) -> list[str]:
    async with database.read() as connection:
        found = await connection.execute(select(events.c.type).order_by(events.c.cursor))
    return list(found.scalars())


async def test_a_plain_select_reads_what_the_library_wrote(database: Database) -> None:
    rows = [
        node("node-1", secret_hash=b"\0\xff", networks=["10.0.0.0/8", "::/0"], reads_zstd=True),
        node("node-2", revoked_at=AT, reads_zstd=False),
        node("'); DROP TABLE nodes; --"),
        node('é "😀"'),
    ]
    async with database.write() as connection:
        await connection.execute(insert(nodes), rows)
    wanted = [str(row["node_id"]) for row in rows]
    read = await database.select(BY_ID, [*wanted, "nobody"])
    assert sorted(read, key=lambda row: wanted.index(row["node_id"])) == rows
    assert await database.select(BY_ID, []) == []


async def test_a_plain_select_goes_by_the_key_and_not_through_the_table(tmp_path: Path) -> None:
    await (await sqlite_catalog(tmp_path)).close()
    with closing(connect(tmp_path / "catalog.db")) as connection:
        asked = (BY_ID.parameter(["node-1"]),)
        plan = connection.execute(f"EXPLAIN QUERY PLAN {BY_ID.sql}", asked).fetchall()
    steps = [step for *_, step in plan]
    assert any(step.startswith("SEARCH nodes USING INDEX") for step in steps), steps
    assert not any(step.startswith("SCAN nodes") for step in steps), steps


async def test_a_plain_insert_stands_whole_or_not_at_all(tmp_path: Path) -> None:
    database = await sqlite_catalog(tmp_path)
    await database.insert(AT_ONCE, [event("first"), event("second")])
    with pytest.raises(CatalogUnavailableError):
        await database.insert(AT_ONCE, [event("third"), event("fourth") | {"type": None}])
    await database.insert(AT_ONCE, [event("fifth")])
    assert await types(database) == ["first", "second", "fifth"]
    await database.close()


async def test_an_event_without_utf8_rolls_its_batch_back(tmp_path: Path) -> None:
    database = await sqlite_catalog(tmp_path)
    with pytest.raises(TypeError):
        await database.insert(AT_ONCE, [event("first"), event("\ud800")])
    await database.insert(AT_ONCE, [event("second")])
    assert await types(database) == ["second"]
    await database.close()


async def test_plain_statements_wait_for_a_lock_and_fail_as_unavailable(
    tmp_path: Path,
) -> None:
    database = await sqlite_catalog(tmp_path)
    with closing(connect(tmp_path / "catalog.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(database.insert(AT_ONCE, [event("waited")]))
        assert await database.select(BY_ID, ["node-1"]) == []  # readers wait for no writer
        await asyncio.sleep(0.1)
        assert not waiting.done()
        other.execute("COMMIT")
        await waiting
        other.execute("ALTER TABLE nodes RENAME TO lost")
        with pytest.raises(CatalogUnavailableError):
            await database.select(BY_ID, ["node-1"])
        other.execute("ALTER TABLE lost RENAME TO nodes")
    assert await database.select(BY_ID, ["node-1"]) == []
    assert await types(database) == ["waited"]
    await database.close()
