"""`crisper keys`: the keys that a server signs tokens with, and those that blobs are encrypted under."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from auth.errors import KeyMaterialError
from auth.signing_keys import KeyState, SigningKey, publish_key, read_keys
from registry.cli import key_encryption
from registry.cli.options import DATA_DIR, DataDirOption, JsonOption
from registry.cli.output import fail, show, table
from registry.datadir import DataDir

keys_app = typer.Typer(no_args_is_help=True, help="Keys of a local server.")

OVERLAP_S = 360
"""Longer than the JWK set may be cached (300 s), so that whoever caches it knows a key before it signs."""
_AT_ONCE_S = 5  # servers look once a second

keys_app.command("rewrap")(key_encryption.rewrap)
keys_app.command("shred")(key_encryption.shred)
EncryptionOption = Annotated[
    bool, typer.Option("--encryption", help="The keys that organizations' blobs are encrypted under.")
]


@keys_app.command("status")
def status(
    encryption: EncryptionOption = False, data_dir: DataDirOption = DATA_DIR, as_json: JsonOption = False
) -> None:
    """Show the keys and what each is used for."""
    if encryption:
        key_encryption.status(data_dir, as_json=as_json)
        return
    rows = [_row(key, time.time()) for key in _read(data_dir)]
    columns = {
        "KEY": "key_id",
        "USE": "use",
        "STATE": "state",
        "SIGNS FROM": "signs_from",
        "GONE": "removed_at",
    }
    table(rows, columns, as_json=as_json, empty="there are no keys")


@keys_app.command("rotate")
def rotate(
    organization: Annotated[
        str | None, typer.Argument(help="With --encryption: whose; all that have blobs when left out.")
    ] = None,
    encryption: EncryptionOption = False,
    signing: Annotated[bool, typer.Option("--signing", help="The keys that sign tokens.")] = False,
    overlap_s: Annotated[
        int,
        typer.Option(
            "--overlap", min=_AT_ONCE_S, help="Seconds from its publication until the new key signs."
        ),
    ] = OVERLAP_S,
    compromised: Annotated[
        bool,
        typer.Option("--compromised", help="Remove all older keys at once: every token and session ends."),
    ] = False,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Publish a new key, which signs after the overlap. Running servers take it up by themselves.

    A new key for encryption is used at once; `crisper keys rewrap` then moves what is under older ones.

    The key before it goes on verifying until its last token and session are over, and is then removed.
    """
    if encryption is signing:
        raise typer.BadParameter("say which keys: --signing or --encryption")
    if encryption:
        key_encryption.rotate(organization, data_dir, as_json=as_json)
        return
    older = _read(data_dir)
    now = time.time()
    if any(key.state(now) is KeyState.PUBLISHED for key in older) and not compromised:
        raise typer.BadParameter("a new key is published already; see crisper keys status")
    folder = DataDir(data_dir).signing_keys
    key_id = publish_key(folder, signs_from=now if compromised else now + overlap_s)
    if compromised:
        for key in older:
            (folder / f"{key.key_id}.json").unlink(missing_ok=True)
    row = next(_row(key, time.time()) for key in _read(data_dir) if key.key_id == key_id)
    show(row, as_json=as_json, rows=list(row.items()))


def _read(data_dir: Path) -> list[SigningKey]:
    try:
        return read_keys(DataDir(data_dir).signing_keys, time.time())
    except KeyMaterialError as error:
        fail(error)


def _row(key: SigningKey, now: float) -> dict[str, Any]:
    return {
        "key_id": key.key_id,
        "use": "signing",
        "state": key.state(now).value,
        "signs_from": _instant(key.signs_from),
        "signs_until": _instant(key.signs_until),
        "removed_at": _instant(key.verifies_until),
    }


def _instant(seconds: float | None) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else None
