import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from registry.catalog.database import Database
from tests.support.postgres import postgres


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    # A socket's path may not be long, and the server's own user must reach it.
    with tempfile.TemporaryDirectory(prefix="crisper-pg-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        with postgres(Path(folder)) as url:
            yield url


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    if request.param == "sqlite":
        database = Database(f"sqlite+aiosqlite:///{tmp_path}/catalog.db")
    else:
        database = Database(request.getfixturevalue("postgres_url"))
        async with database.write() as connection:
            await connection.execute(text("DROP SCHEMA public CASCADE"))
            await connection.execute(text("CREATE SCHEMA public"))
    await database.migrate()
    yield database
    await database.close()
