"""An empty catalog for each test, migrated once."""

import asyncio
import functools
import tempfile
from pathlib import Path

from registry.catalog.engine.database import Database


@functools.cache
def _template() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "catalog.db"
        asyncio.run(_migrate(file))
        return file.read_bytes()


async def _migrate(file: Path) -> None:
    database = Database(f"sqlite:///{file}")
    await database.migrate()
    await database.close()  # the last connection writes the log back into the file


async def sqlite_catalog(folder: Path) -> Database:
    """Open a fresh SQLite catalog in a folder; the caller closes it."""
    file = folder / "catalog.db"
    await asyncio.to_thread(lambda: file.write_bytes(_template()))
    return Database(f"sqlite:///{file}")
