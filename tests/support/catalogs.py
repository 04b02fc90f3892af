"""An empty catalog for each test, migrated once."""

import asyncio
import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from auth.ports import Clock
from registry.catalog.engine.database import Database, SystemClock
from registry.catalog.groups import SqlGroupCatalog
from registry.catalog.specs import SpecCipher
from storage.keys.local import LocalKeyring


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


@functools.cache
def _keyring() -> LocalKeyring:
    folder = Path(tempfile.mkdtemp(prefix="crisper-test-keys-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return LocalKeyring.create(folder / "keyring.json")


def spec_cipher(database: Database) -> SpecCipher:
    """Return a cipher for specs whose keys all tests of a process share."""
    return SpecCipher(database, _keyring())


def group_catalog(database: Database, clock: Clock | None = None) -> SqlGroupCatalog:
    """Return the catalog's groups, with keys that all tests of a process share."""
    return SqlGroupCatalog(database, clock or SystemClock(), spec_cipher(database))
