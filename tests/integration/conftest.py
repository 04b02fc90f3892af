import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from registry.catalog.engine.database import Database
from tests.support.background import Background
from tests.support.catalogs import sqlite_catalog
from tests.support.postgres import another_database, drop_database, postgres


@pytest.fixture(scope="session")
def migrated_url() -> Iterator[str]:
    """An unused catalog, migrated once for all tests."""
    # A socket's path may not be long, and the server's own user must reach it.
    with tempfile.TemporaryDirectory(prefix="crisper-pg-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        with postgres(Path(folder)) as url, Background() as loop:
            loop.run(_migrate(url))
            yield url


async def _migrate(url: str) -> None:
    database = Database(url)
    await database.migrate()
    await database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """An empty catalog of the test's own."""
    if request.param == "sqlite":
        database = await sqlite_catalog(tmp_path)
        yield database
        await database.close()
        return
    migrated = request.getfixturevalue("migrated_url")
    url = await asyncio.to_thread(another_database, migrated, like="crisper")
    database = Database(url)
    yield database
    await database.close()
    await asyncio.to_thread(drop_database, url)
