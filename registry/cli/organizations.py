"""`crisper organization`: commands for organizations and their API keys."""

from typing import Annotated
from urllib.parse import quote

import typer

from registry.cli.ask import ask
from registry.cli.encryption import organization_encryption
from registry.cli.options import DATA_DIR, DataDirOption, JsonOption
from registry.cli.output import say, show, table
from registry.cli.platforms import organization_platforms
from registry.model.access import KeyScope

organization_app = typer.Typer(no_args_is_help=True, help="Organizations (customers).")
key_app = typer.Typer(no_args_is_help=True, help="API keys of an organization.")
organization_app.add_typer(key_app, name="key")
organization_app.command("platforms")(organization_platforms)
organization_app.command("encryption")(organization_encryption)

NameArgument = Annotated[str, typer.Argument(help="Name of the organization.")]


@organization_app.command("create")
def create(name: NameArgument, data_dir: DataDirOption = DATA_DIR, as_json: JsonOption = False) -> None:
    """Create an organization. Its first API key is shown only once."""
    made = ask(data_dir, lambda client: client.operator("POST", "/organizations", {"name": name}))
    show(made, as_json=as_json, rows=[("organization", made["name"]), ("api key", made["api_key"])])


@organization_app.command("list")
def list_(data_dir: DataDirOption = DATA_DIR, as_json: JsonOption = False) -> None:
    """List all organizations."""
    found = ask(data_dir, lambda client: client.operator_list("/organizations"))
    columns = {"NAME": "name", "SINCE": "created_at"}
    table(
        found,
        columns,
        as_json=as_json,
        empty="No organizations. Create one: crisper organization create NAME",
    )


@key_app.command("create")
def create_key(
    organization: NameArgument,
    name: Annotated[str, typer.Option(help="Label for the key.")],
    scope: Annotated[
        KeyScope,
        typer.Option(help="read: only reads; deploy: also changes groups; full: also webhooks and API keys."),
    ] = KeyScope.FULL,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Create an API key. It is shown only once."""
    made = ask(
        data_dir,
        lambda client: client.operator("POST", _keys(organization), {"name": name, "scope": scope.value}),
    )
    rows = [
        ("key", made["key_id"]),
        ("name", made["name"]),
        ("scope", made["scope"]),
        ("api key", made["api_key"]),
    ]
    show(made, as_json=as_json, rows=rows)


@key_app.command("list")
def list_keys(
    organization: NameArgument, data_dir: DataDirOption = DATA_DIR, as_json: JsonOption = False
) -> None:
    """List an organization's API keys, including revoked ones. Does not show the keys themselves."""
    found = ask(data_dir, lambda client: client.operator("GET", _keys(organization)))["items"]
    columns = {
        "ID": "key_id",
        "NAME": "name",
        "SCOPE": "scope",
        "SINCE": "created_at",
        "LAST USED": "last_used_at",
        "REVOKED": "revoked_at",
    }
    empty = f"No keys. Create one: crisper organization key create {organization} --name NAME"
    table(found, columns, as_json=as_json, empty=empty)


@key_app.command("revoke")
def revoke_key(
    organization: NameArgument,
    key_id: Annotated[str, typer.Argument(help="Key id, from `crisper organization key list`.")],
    data_dir: DataDirOption = DATA_DIR,
) -> None:
    """Revoke an API key with immediate effect."""
    ask(data_dir, lambda client: client.operator("DELETE", f"{_keys(organization)}/{quote(key_id)}"))
    say(f"revoked {key_id}")


def _keys(organization: str) -> str:
    return f"/organizations/{quote(organization)}/api-keys"
