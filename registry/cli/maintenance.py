"""Maintenance commands, which run on the server's machine, with its settings, while it runs or not."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from auth.errors import AuthError
from registry.cli.options import DATA_DIR, DEFAULT, DataDirOption, JsonOption, OrganizationName
from registry.cli.output import fail, follow, misused, print_json, run, say, show
from registry.config import Settings
from registry.datadir import DataDir
from registry.environment import read_settings
from registry.errors import ConfigError, RegistryError
from registry.sizes import readable_bytes
from storage.digest import Digest
from storage.errors import StorageError

if TYPE_CHECKING:
    from registry.maintenance.rekeying import Rekeyed
    from registry.server.maintenance import Upkeep
    from storage.upkeep.gc import Collected
    from storage.upkeep.scrub import Scrubbed

InsecureOption = Annotated[
    list[str] | None,
    typer.Option(
        "--insecure-registry",
        help="Upstream HOST[:PORT] that may be reached over plain HTTP. Repeatable.",
    ),
]


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    grace: Annotated[
        float | None,
        typer.Option(
            help="Seconds that a blob must be unreferenced before it is removed.",
            show_default="CRISPER_GC_GRACE_S",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Continue even if the catalog lacks most stored objects.")
    ] = False,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Remove blobs, keys and images that are no longer referenced. The server may run meanwhile."""
    settings = _settings(data_dir)

    async def collect(upkeep: "Upkeep") -> None:
        grace_s = settings.gc_grace_s if grace is None else grace
        with follow("gc", lines=False) as progress:

            def report(done: "Collected") -> None:
                removed = f"{done.objects:,} removed ({readable_bytes(done.bytes)})"
                progress(f"{done.objects_seen:,} objects checked, {removed}", None)

            done = await upkeep.collection.run(grace_s, dry_run=dry_run, force=force, report=report)
        if as_json:
            print_json(asdict(done))
            return
        verb = "would remove" if done.dry_run else "removed"
        say(
            f"{verb} {done.objects} objects ({done.bytes:,} bytes), {done.records} keys, "
            f"{done.images} images, {done.temporaries} leftovers; "
            f"{done.marked_records} keys and {done.marked_objects} objects are in their grace period, "
            f"{done.partials} uploads are unfinished"
        )

    _run(settings, collect)


def scrub(
    rate: Annotated[float, typer.Option(help="Read limit in megabytes per second; 0 means no limit.")] = 50.0,
    restart: Annotated[
        bool, typer.Option("--restart", help="Start from the beginning, not where the last run stopped.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Import damaged images again, if they need no credentials.")
    ] = False,
    insecure_registry: InsecureOption = None,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Read and verify all stored blobs, and quarantine damaged ones. Exits with 1 if there is damage."""
    settings = _settings(data_dir, insecure_registry)

    async def read_all(upkeep: "Upkeep") -> None:
        with follow("scrub", lines=False) as progress:

            def report(done: "Scrubbed") -> None:
                progress(
                    f"{done.objects:,} objects ({readable_bytes(done.bytes)}), {done.damaged:,} damaged", None
                )

            done = await upkeep.scrubbing.run(rate * 1_000_000, restart=restart, report=report)
        repaired = await upkeep.repair.run() if repair else []
        if as_json:
            print_json({**asdict(done), "repairs": [asdict(one) for one in repaired]})
        else:
            say(
                f"read {done.objects} objects ({done.bytes:,} bytes): {done.damaged} damaged, "
                f"{done.lifted} released from quarantine, "
                f"{done.unreadable} unreadable because their key is unavailable"
            )
            for one in repaired:
                say(f"{one.repository}: {one.problem or 'imported again, complete'}")
        left = any(one.problem for one in repaired) if repair else done.damaged
        if left:
            raise typer.Exit(1)

    _run(settings, read_all)


def rekey(
    image: Annotated[str, typer.Argument(metavar="DIGEST", help="Digest of the image, sha256:...")],
    organization: OrganizationName = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Encrypt an image's layers with new keys. Sessions that began before continue with the old ones."""
    settings = _settings(data_dir)

    async def draw(upkeep: "Upkeep") -> None:
        def report(done: "Rekeyed") -> None:
            if not as_json:
                say(f"{done.layers} of {done.total} layers, {done.bytes:,} bytes")

        done = await upkeep.rekeying.run(organization, Digest.parse(image), report)
        if as_json:
            print_json(asdict(done))
        elif done.replaced:
            say("remove the old ciphertext from caches (deploy/edge/purge.sh):")
            for digest in done.replaced:
                say(digest)

    _run(settings, draw)


def doctor(data_dir: DataDirOption = DATA_DIR, as_json: JsonOption = False) -> None:
    """Check catalog, storage, keys, ledger and files for consistency. Exits with 1 if there is a problem."""
    from registry.server.maintenance import examine  # noqa: PLC0415 (client commands start without it)

    async def show() -> None:
        findings = await examine(_settings(data_dir))
        if as_json:
            print_json([asdict(finding) for finding in findings])
        else:
            for finding in findings:
                say(f"{finding.level:<8} {finding.subject:<8} {finding.text}")
                if finding.advice:
                    say(f"{'':<17} -> {finding.advice}")
        if any(finding.level == "problem" for finding in findings):
            raise typer.Exit(1)

    run(show())


def backup(
    target: Annotated[Path, typer.Argument(help="Folder for the backup. An older backup in it is updated.")],
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Copy keys, catalog and blobs to a folder that a server can run on. The server may run meanwhile."""
    from registry.maintenance.backup import back_up  # noqa: PLC0415 (client commands start without it)

    settings = _settings(data_dir)

    async def copy() -> None:
        with follow("backup", lines=False) as progress:

            def report(copied: int, total: int) -> None:
                progress(f"{copied:,} of {total:,} objects", 100 * copied / total)

            done = await back_up(settings, target, report)
        if as_json:
            print_json(asdict(done))
        else:
            say(f"{target} contains {done.objects} objects ({done.bytes:,} bytes), {done.copied} of them new")

    try:
        run(copy())
    except OSError as error:
        fail(RegistryError(f"the backup cannot be written: {error.strerror or error}"))


def init(data_dir: DataDirOption = DATA_DIR, as_json: JsonOption = False) -> None:
    """Create the keys of a new installation, which all of its servers share. Existing keys are kept."""
    from registry.server.first_start import ensure_secrets  # noqa: PLC0415 (client commands start without it)

    settings = _settings(data_dir)
    data = DataDir(settings.data_dir)
    try:
        data.create()
        ensure_secrets(settings, data)
    except (RegistryError, StorageError, AuthError) as error:
        fail(error)
    except OSError as error:
        fail(RegistryError(f"the keys cannot be written: {error.strerror or error}"))
    drawn = {
        "operator_key": str(data.operator_key),
        "signing_keys": str(data.signing_keys),
        "node_ca": str(data.node_ca),
        "keyring": str(settings.key_location.file) if settings.key_location.file else None,
    }
    show(drawn, as_json=as_json, rows=[(name.replace("_", " "), path) for name, path in drawn.items()])


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (init, gc, scrub, doctor, backup):
        app.command()(command)


def _settings(data_dir: Path, insecure: list[str] | None = None) -> Settings:
    given: dict[str, Any] = {"data_dir": data_dir}
    if insecure:
        given["insecure_registries"] = tuple(insecure)
    try:
        return read_settings(**given)
    except ValidationError as error:
        misused(error)
    except ConfigError as error:
        fail(error)


def _run(settings: Settings, work: Callable[["Upkeep"], Awaitable[None]]) -> None:
    from registry.server.maintenance import open_upkeep  # noqa: PLC0415 (client commands start without it)

    async def with_upkeep() -> None:
        async with open_upkeep(settings) as upkeep:
            await work(upkeep)

    try:
        run(with_upkeep())
    except StorageError as error:
        fail(error)
