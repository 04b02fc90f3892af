"""`crisper keys`."""

import typer

from registry.cli import key_encryption

keys_app = typer.Typer(
    no_args_is_help=True, help="Rotate and destroy the keys that blobs are encrypted under."
)
keys_app.command("status")(key_encryption.status)
keys_app.command("rotate")(key_encryption.rotate)
keys_app.command("rewrap")(key_encryption.rewrap)
keys_app.command("shred")(key_encryption.shred)
