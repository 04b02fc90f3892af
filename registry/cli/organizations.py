"""`crisper organization`: customers, and the keys that they use the public API with."""

from typing import Annotated
from urllib.parse import quote

import typer

from registry.cli.ask import ask
from registry.cli.options import DATA_DIR, DataDirOption, JsonOption
from registry.cli.output import show, table

organization_app = typer.Typer(no_args_is_help=True, help="Organizations: the customers.")
key_app = typer.Typer(no_args_is_help=True, help="An organization's keys to the public API.")
organization_app.add_typer(key_app, name="key")

NameArgument = Annotated[str, typer.Argument(help="The organization's name.")]


@organization_app.command("create")
def create(name: NameArgument, data_dir: DataDirOption = DATA_DIR, as_json: JsonOption = False) -> None:
    """Create an organization; its first API key is shown this once."""
    made = ask(data_dir, lambda client: client.operator("POST", "/organizations", {"name": name}))
    show(made, as_json=as_json, rows=[("organization", made["name"]), ("api key", made["api_key"])])


@organization_app.command("list")
def list_(data_dir: DataDirOption = DATA_DIR, as_json: JsonOption = False) -> None:
    """List all organizations."""
    found = ask(data_dir, lambda client: client.operator("GET", "/organizations"))["items"]
    columns = {"NAME": "name", "SINCE": "created_at"}
    table(found, columns, as_json=as_json, empty="No organizations yet.")


@key_app.command("create")
def create_key(
    organization: NameArgument,
    name: Annotated[str, typer.Option(help="What its owner calls it.")],
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Make a further API key, shown this once."""
    made = ask(data_dir, lambda client: client.operator("POST", _keys(organization), {"name": name}))
    rows = [("key", made["key_id"]), ("name", made["name"]), ("api key", made["api_key"])]
    show(made, as_json=as_json, rows=rows)


@key_app.command("list")
def list_keys(
    organization: NameArgument, data_dir: DataDirOption = DATA_DIR, as_json: JsonOption = False
) -> None:
    """List an organization's API keys, revoked ones included; never the keys themselves."""
    found = ask(data_dir, lambda client: client.operator("GET", _keys(organization)))["items"]
    columns = {"ID": "key_id", "NAME": "name", "SINCE": "created_at", "REVOKED": "revoked_at"}
    empty = f"No keys; make one: crisper organization key create {organization} --name NAME"
    table(found, columns, as_json=as_json, empty=empty)


@key_app.command("revoke")
def revoke_key(
    organization: NameArgument,
    key_id: Annotated[str, typer.Argument(help="From `crisper organization key list`.")],
    data_dir: DataDirOption = DATA_DIR,
) -> None:
    """Revoke an API key from the next request on."""
    ask(data_dir, lambda client: client.operator("DELETE", f"{_keys(organization)}/{quote(key_id)}"))
    print(f"revoked {key_id}")


def _keys(organization: str) -> str:
    return f"/organizations/{quote(organization)}/api-keys"
