"""A copy of everything that a server cannot make again, taken while it runs (docs/backup.md)."""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from registry.catalog.engine.database import Database, SystemClock
from registry.catalog.maintenance import SqlUpkeep
from registry.config import Settings
from registry.datadir import DataDir
from registry.errors import ConfigError, StoreFailedError
from registry.maintenance.collection import GC
from registry.maintenance.lease import Lease

_BATCH = 20


@dataclass(slots=True)
class BackedUp:
    """What a backup holds, and how much of it was copied this time."""

    objects: int = 0
    copied: int = 0
    bytes: int = 0


async def back_up(settings: Settings, target: Path) -> BackedUp:
    """Copy a server's keys, catalog and blobs to `target`; into an older backup, only what is new.

    Collection waits meanwhile, so that no object of the catalog's copy goes before it is copied.

    Raises:
        ConfigError: The catalog is not SQLite, or there is none.
        ConflictError: A collection runs; try again when it is done.
        StoreFailedError: An object of the catalog's copy is missing; try again.
    """
    data = DataDir(settings.data_dir)
    if settings.storage_url is not None or settings.key_location.file is None:
        raise ConfigError(
            "blobs or keys are not on this machine: back them up where they are (docs/backup.md)"
        )
    if settings.database_url is not None:
        raise ConfigError("the catalog is not in the data folder: back it up with pg_dump (docs/backup.md)")
    if not data.catalog.exists():
        raise ConfigError(f"there is no catalog at {data.catalog}; give the server's --data-dir")
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
            for batch in _batches(names):
                await lease.still_ours()
                await asyncio.to_thread(_copy_objects, batch, data, copy, done)
    finally:
        await database.close()
    return done


def _copy_keys(settings: Settings, data: DataDir, copy: DataDir) -> None:
    if settings.key_location.file is not None:
        _copy(settings.key_location.file, copy.root / "keyring.json")
    _copy(data.operator_key, copy.operator_key)
    for source, folder in ((data.signing_keys, copy.signing_keys), (data.node_ca, copy.node_ca)):
        folder.mkdir(mode=0o700, exist_ok=True)
        for path in source.iterdir():
            _copy(path, folder / path.name)


def _copy_catalog(source: Path, target: Path) -> list[str]:
    """Copy the database as of one moment, while others write to it; return the objects that it names."""
    fresh = target.with_name("catalog.db.new")
    fresh.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with closing(sqlite3.connect(source, timeout=15)) as here, closing(sqlite3.connect(fresh)) as there:
        here.backup(there)
        # The copy is of no running server: nobody collects in it, and nobody holds its imports.
        with there:
            there.execute("UPDATE upkeep SET holder = NULL, lease_until = NULL")
        names = [str(name) for (name,) in there.execute("SELECT DISTINCT object_name FROM blob_keys")]
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
                f"object {name} is not in storage: run `crisper doctor`, then the backup again"
            ) from None
        done.bytes += size_bytes


def _copy(source: Path, target: Path) -> None:
    """Copy a file for its owner alone, whole or not at all; objects never change, so a name says it all."""
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


def _batches(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), _BATCH):
        yield names[start : start + _BATCH]
