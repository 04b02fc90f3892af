"""Backup of the data that a server cannot recreate, taken while it runs (docs/backup.md)."""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from auth.signing_keys import write_public_parts
from registry.catalog.engine.database import Database, SystemClock
from registry.catalog.maintenance import SqlUpkeep
from registry.config import Settings
from registry.datadir import DataDir
from registry.errors import ConfigError, StoreFailedError
from registry.maintenance.collection import GC
from registry.maintenance.lease import Lease

_BATCH = 20
_OBJECTS = (
    "SELECT object_name FROM blob_keys "
    "UNION SELECT sidecar_name FROM blob_keys WHERE sidecar_name IS NOT NULL"
)


@dataclass(slots=True)
class BackedUp:
    """Size of a backup, and the number of objects that this run copied."""

    objects: int = 0
    copied: int = 0
    bytes: int = 0


async def back_up(
    settings: Settings, target: Path, report: Callable[[int, int], None] = lambda _done, _total: None
) -> BackedUp:
    """Copy a server's keys, catalog and blobs to `target`. An existing backup is updated incrementally.

    Holds the lease of collection, so that no object is removed between the copy of the catalog and its own.

    Args:
        report: Called with the number of objects that the backup contains, and of all objects.

    Raises:
        ConfigError: The catalog is not SQLite, or does not exist.
        ConflictError: Collection is running; try again when it is done.
        StoreFailedError: An object that the catalog references is missing; try again.
    """
    data = DataDir(settings.data_dir)
    if settings.storage_url is not None or settings.key_location.file is None:
        raise ConfigError("blobs or keys are in an external service: back them up there (docs/backup.md)")
    if settings.database_url is not None:
        raise ConfigError("the catalog is in PostgreSQL: back it up with pg_dump (docs/backup.md)")
    if not data.catalog.exists():
        raise ConfigError(
            f"there is no catalog at {data.catalog}: set --data-dir to the server's data directory"
        )
    copy = DataDir(target)
    copy.create()
    database = Database(f"sqlite:///{data.catalog}")
    try:
        async with Lease.hold(SqlUpkeep(database, SystemClock()), GC) as lease:
            await asyncio.to_thread(_copy_keys, settings, data, copy)
            for folder in (copy.blobs, copy.blobs / "objects"):
                folder.mkdir(mode=0o700, exist_ok=True)
            names = await asyncio.to_thread(_copy_catalog, data.catalog, copy.catalog)
            done = BackedUp(objects=len(names))
            for start in range(0, len(names), _BATCH):
                report(start, len(names))
                await lease.extend()
                await asyncio.to_thread(_copy_objects, names[start : start + _BATCH], data, copy, done)
    finally:
        await database.close()
    return done


def _copy_keys(settings: Settings, data: DataDir, copy: DataDir) -> None:
    if settings.key_location.file is not None:
        _copy(settings.key_location.file, copy.root / "keyring.json")
    _copy(data.operator_key, copy.operator_key)
    for source, folder in ((data.signing_keys, copy.signing_keys), (data.node_ca, copy.node_ca)):
        folder.mkdir(mode=0o700, exist_ok=True)
        for path in filter(Path.is_file, source.iterdir()):
            _copy(path, folder / path.name)
    write_public_parts(copy.signing_keys)


def _copy_catalog(source: Path, target: Path) -> list[str]:
    """Copy a consistent snapshot of the database. Returns the names of the objects that it references."""
    fresh = target.with_name("catalog.db.new")
    fresh.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with closing(sqlite3.connect(source, timeout=15)) as here, closing(sqlite3.connect(fresh)) as there:
        here.backup(there)
        # No server runs on the copy yet, so its maintenance leases are released.
        with there:
            there.execute("UPDATE upkeep SET holder = NULL, lease_until = NULL")
        names = [str(name) for (name,) in there.execute(_OBJECTS)]
    _sync(fresh)
    fresh.rename(target)
    return sorted(names)


def _copy_objects(names: Iterable[str], data: DataDir, copy: DataDir, done: BackedUp) -> None:
    for name in names:
        source = data.blobs / "objects" / name[:2] / name
        target = copy.blobs / "objects" / name[:2] / name
        try:
            size_bytes = source.stat().st_size
            if not target.exists():
                target.parent.mkdir(mode=0o700, exist_ok=True)
                _copy(source, target)
                done.copied += 1
        except FileNotFoundError:
            raise StoreFailedError(
                f"the object {name} is missing from storage: run `crisper doctor`, then the backup again"
            ) from None
        done.bytes += size_bytes


def _copy(source: Path, target: Path) -> None:
    """Copy a file atomically, readable only by its owner."""
    fresh = target.with_name(f".{target.name}.new")
    with source.open("rb") as reader:
        descriptor = os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())
    fresh.rename(target)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
