"""`crisper organization`: customers, and the keys that they use the public API with."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from registry.cli.client import connect
from registry.cli.options import DATA_DIR, DataDirOption, JsonOption
from registry.cli.output import run, show, table

organization_app = typer.Typer(no_args_is_help=True, help="Organizations: the customers.")
key_app = typer.Typer(no_args_is_help=True, help="An organization's keys to the public API.")
organization_app.add_typer(key_app, name="key")

NameArgument = Annotated[str, typer.Argument(help="The organization's name.")]


@organization_app.command("create", epilog="Example: crisper organization create acme-corp")
def create(name: NameArgument, data_dir: DataDirOption = DATA_DIR, as_json: JsonOption = False) -> None:
    """Create an organization; its first API key is shown this once."""

    async def work() -> None:
        async with connect(data_dir) as client:
            made = await client.operator("POST", "/organizations", {"name": name})
        show(made, as_json=as_json, rows=[("organization", made["name"]), ("api key", made["api_key"])])

    run(work())


@organization_app.command("list")
def list_(data_dir: DataDirOption = DATA_DIR, as_json: JsonOption = False) -> None:
    """List all organizations."""

    async def work() -> None:
        async with connect(data_dir) as client:
            found = (await client.operator("GET", "/organizations"))["items"]
        columns = {"NAME": "name", "SINCE": "created_at"}
        table(found, columns, as_json=as_json, empty="No organizations yet.")

    run(work())


@key_app.command("create", epilog="Example: crisper organization key create acme-corp --name ci")
def create_key(
    organization: NameArgument,
    name: Annotated[str, typer.Option(help="What its owner calls it.")],
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Make a further API key, shown this once."""

    async def work() -> None:
        async with connect(data_dir) as client:
            path = f"/organizations/{quote(organization)}/api-keys"
            _show_key(await client.operator("POST", path, {"name": name}), as_json=as_json)

    run(work())


@key_app.command("list")
def list_keys(
    organization: NameArgument, data_dir: DataDirOption = DATA_DIR, as_json: JsonOption = False
) -> None:
    """List an organization's API keys, revoked ones included; never the keys themselves."""

    async def work() -> None:
        async with connect(data_dir) as client:
            found = (await client.operator("GET", f"/organizations/{quote(organization)}/api-keys"))["items"]
        columns = {"ID": "key_id", "NAME": "name", "SINCE": "created_at", "REVOKED": "revoked_at"}
        empty = f"No keys; make one: crisper organization key create {organization} --name NAME"
        table(found, columns, as_json=as_json, empty=empty)

    run(work())


@key_app.command("revoke")
def revoke_key(
    organization: NameArgument,
    key_id: Annotated[str, typer.Argument(help="From `crisper organization key list`.")],
    data_dir: DataDirOption = DATA_DIR,
) -> None:
    """Revoke an API key from the next request on."""

    async def work() -> None:
        async with connect(data_dir) as client:
            await client.operator("DELETE", f"/organizations/{quote(organization)}/api-keys/{quote(key_id)}")
        print(f"revoked {key_id}")

    run(work())


def _show_key(made: Any, *, as_json: bool) -> None:  # noqa: ANN401 (JSON)
    rows = [("key", made["key_id"]), ("name", made["name"]), ("api key", made["api_key"])]
    show(made, as_json=as_json, rows=rows)
