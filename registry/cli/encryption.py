"""`crisper organization encryption`."""

from typing import Annotated
from urllib.parse import quote

import typer

from registry.cli.ask import ask
from registry.cli.options import DATA_DIR, DataDirOption, JsonOption
from registry.cli.output import show
from registry.errors import ConfigError
from registry.model.encryption import Encryption


def organization_encryption(
    name: Annotated[str, typer.Argument(help="Name of the organization.")],
    policy: Annotated[
        Encryption | None, typer.Argument(help="New policy; without it, show the policy.")
    ] = None,
    default: Annotated[
        bool, typer.Option("--default", help="Remove the setting, so that the server's policy applies.")
    ] = False,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show or set whether an organization's layers are delivered encrypted."""
    if policy and default:
        raise ConfigError("give a policy, or --default, not both")
    path = f"/organizations/{quote(name)}/encryption"
    body = {"policy": policy.value if policy else None} if policy or default else None
    found = ask(data_dir, lambda client: client.operator("PUT" if body else "GET", path, body))
    rows = [("encryption", found["effective"]), ("set here", "yes" if found["policy"] else "no")]
    show(found, as_json=as_json, rows=rows)
