"""`crisper keys`: commands for the key-encryption keys, which wrap the blobs' data keys.

These commands access catalog and key provider directly, with the server's settings. Servers may run
meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import ValidationError

from registry.cli.options import DATA_DIR, DataDirOption, JsonOption
from registry.cli.output import fail, misused, say_progress, show, table
from registry.environment import read_settings
from registry.errors import ConfigError, RegistryError
from storage.errors import StorageError
from storage.upkeep.rewrapping import KeyManager, Rewrapped

R = TypeVar("R")


def status(data_dir: Path, *, as_json: bool) -> None:
    """Show the key-encryption keys in use, and the number of blobs and of other secrets under each one."""
    uses = _run(data_dir, lambda manager: manager.status())
    rows = [
        {
            "organization": use.tenant,
            "key": use.kek_id,
            "blobs": use.records,
            "secrets": use.secrets,
            "state": "current" if current else "older",
        }
        for use, current in uses
    ]
    columns = {
        "ORGANIZATION": "organization",
        "KEY": "key",
        "BLOBS": "blobs",
        "SECRETS": "secrets",
        "STATE": "state",
    }
    table(rows, columns, as_json=as_json, empty="No keys are in use: there are no groups, blobs or webhooks.")


def rotate(organization: str | None, data_dir: Path, *, as_json: bool) -> None:
    """Create new key-encryption keys for organizations."""
    tenants = [organization] if organization else None
    made = _run(data_dir, lambda manager: manager.rotate(tenants))
    show(made, as_json=as_json, rows=list(made.items()))


def rewrap(data_dir: DataDirOption = DATA_DIR, as_json: JsonOption = False) -> None:
    """Wrap all data keys with their organization's current key. Can be interrupted and repeated."""
    done = _run(data_dir, lambda manager: manager.rewrap(_quiet if as_json else _show))
    counts = {"seen": done.seen, "rewrapped": done.changed, "damaged": done.damaged}
    show(counts, as_json=as_json, rows=list(counts.items()))
    if done.damaged:
        fail(
            ConfigError(f"{done.damaged} key records are damaged and were not changed: run `crisper doctor`")
        )


def shred(
    organization: Annotated[str, typer.Argument(help="Organization whose blobs become unreadable for good.")],
    data_dir: DataDirOption = DATA_DIR,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Destroy an organization's keys.

    Its blobs, and the environment and other settings of its groups, can never be decrypted again, also in
    backups.
    """
    if not yes:
        typer.confirm(f"Destroy every key of {organization}? This cannot be undone.", abort=True)
    shredded = _run(data_dir, lambda manager: manager.shred(organization))
    counts = {"keys_destroyed": shredded.keys, "records_forgotten": shredded.records}
    show(
        counts,
        as_json=as_json,
        rows=[("keys destroyed", shredded.keys), ("key records deleted", shredded.records)],
    )


def _run(data_dir: Path, work: Callable[[KeyManager], Awaitable[R]]) -> R:
    async def run() -> R:
        async with _manager(data_dir) as manager:
            return await work(manager)

    try:
        return asyncio.run(run())
    except ValidationError as error:
        misused(error)
    except (RegistryError, StorageError) as error:
        fail(error)


@asynccontextmanager
async def _manager(data_dir: Path) -> AsyncIterator[KeyManager]:
    from registry.catalog.engine.database import Database  # noqa: PLC0415
    from registry.catalog.key_records import SqlKeyRecords  # noqa: PLC0415
    from registry.catalog.wrapped_secrets import SqlWrappedSecrets  # noqa: PLC0415
    from registry.composition.storage import database_url  # noqa: PLC0415 (other commands start without the server)
    from registry.datadir import DataDir  # noqa: PLC0415

    settings = read_settings(data_dir=data_dir)
    data = DataDir(settings.data_dir)
    if settings.database_url is None and not data.catalog.exists():
        raise ConfigError(
            f"there is no catalog in {data.root}: name the server's data folder with --data-dir"
        )
    keys = settings.key_location.open()
    database = Database(database_url(settings, data))
    try:
        yield KeyManager(keys, SqlKeyRecords(database), SqlWrappedSecrets(database))
    finally:
        await database.close()
        await keys.aclose()


def _show(done: Rewrapped) -> None:
    say_progress(f"{done.seen} of {done.total}", last=done.seen >= done.total)


def _quiet(_done: Rewrapped) -> None:
    """Report no progress, because the output is one JSON document."""
