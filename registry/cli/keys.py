"""`crisper keys`: commands for the keys that sign tokens and for the keys that encrypt blobs."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from auth.errors import KeyMaterialError
from auth.signing_keys import KeyState, SigningKey, publish_key, read_keys, remove_key
from registry.cli import key_encryption
from registry.cli.options import DATA_DIR, DataDirOption, JsonOption
from registry.cli.output import fail, show, table
from registry.datadir import DataDir

keys_app = typer.Typer(no_args_is_help=True, help="Keys of a local server.")

OVERLAP_S = 360
"""Longer than the cache lifetime of the JWK set (300 s): all verifiers know a key before it signs."""
_AT_ONCE_S = 5  # servers check for new keys once per second

keys_app.command("rewrap")(key_encryption.rewrap)
keys_app.command("shred")(key_encryption.shred)
EncryptionOption = Annotated[
    bool, typer.Option("--encryption", help="The key-encryption keys of organizations.")
]


@keys_app.command("status")
def status(
    encryption: EncryptionOption = False, data_dir: DataDirOption = DATA_DIR, as_json: JsonOption = False
) -> None:
    """Show the keys and the state of each one."""
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
    table(rows, columns, as_json=as_json, empty="No keys. Create them: crisper init")


@keys_app.command("rotate")
def rotate(
    organization: Annotated[
        str | None,
        typer.Argument(help="With --encryption: one organization; by default, all that have keys."),
    ] = None,
    encryption: EncryptionOption = False,
    signing: Annotated[bool, typer.Option("--signing", help="The keys that sign tokens.")] = False,
    overlap_s: Annotated[
        int,
        typer.Option(
            "--overlap", min=_AT_ONCE_S, help="Seconds between the new key's publication and its first use."
        ),
    ] = OVERLAP_S,
    compromised: Annotated[
        bool,
        typer.Option("--compromised", help="Remove all older keys at once. Every token and session ends."),
    ] = False,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Create a new key. Running servers load it by themselves.

    A signing key is published at once and signs after the overlap. Tokens and sessions of the previous key
    stay valid until they end; then the key is removed.

    An encryption key is used at once. `crisper keys rewrap` then rewraps data keys that use older keys.
    """
    if encryption is signing:
        raise typer.BadParameter("choose the keys: --signing or --encryption")
    if encryption:
        key_encryption.rotate(organization, data_dir, as_json=as_json)
        return
    older = _read(data_dir)
    now = time.time()
    if any(key.state(now) is KeyState.PUBLISHED for key in older) and not compromised:
        raise typer.BadParameter(
            "a new key is already published and not yet in use: see `crisper keys status`"
        )
    folder = DataDir(data_dir).signing_keys
    key_id = publish_key(folder, signs_from=now if compromised else now + overlap_s)
    if compromised:
        for key in older:
            remove_key(folder, key.key_id)
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
