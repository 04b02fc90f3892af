"""`crisper webhook`: endpoints that are told about groups, instances and tokens."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from registry.cli.client import connect
from registry.cli.options import DATA_DIR, DEFAULT, DataDirOption, JsonOption, OrganizationOption
from registry.cli.output import run, show, table

webhook_app = typer.Typer(
    no_args_is_help=True, help="Endpoints that are told about groups, instances and tokens."
)

IdArgument = Annotated[str, typer.Argument(help="From `crisper webhook list`.")]


@webhook_app.command(
    "create", epilog="Example: crisper webhook create https://scheduler.example.com/crisper --type 'group.*'"
)
def create(
    url: Annotated[str, typer.Argument(help="https, at a public address.")],
    types: Annotated[
        list[str] | None,
        typer.Option("--type", help="Such as group.imported, or 'token.*'. Repeatable; everything without."),
    ] = None,
    organization: OrganizationOption = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Register an endpoint; its signing secret is shown this once."""

    async def work() -> None:
        async with connect(data_dir) as client:
            body = {"url": url, "types": types or []}
            made = await client.operator("POST", f"/organizations/{quote(organization)}/webhooks", body)
        show(made, as_json=as_json, rows=[*_rows(made), ("secret", made["secret"])])

    run(work())


@webhook_app.command("list")
def list_(
    organization: OrganizationOption = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """List an organization's endpoints, and how they do."""

    async def work() -> None:
        async with connect(data_dir) as client:
            found = (await client.operator("GET", f"/organizations/{quote(organization)}/webhooks"))["items"]
        columns = {
            "ID": "webhook_id",
            "URL": "url",
            "TYPES": "types",
            "DELIVERED": "delivered_at",
            "FAILING SINCE": "failing_since",
            "GIVEN UP": "disabled_at",
        }
        table(found, columns, as_json=as_json, empty="No webhooks; register one: crisper webhook create URL")

    run(work())


@webhook_app.command("show")
def show_(
    webhook_id: IdArgument,
    organization: OrganizationOption = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show an endpoint, and how it does."""
    _call("GET", webhook_id, "", organization, data_dir, as_json=as_json)


@webhook_app.command("enable")
def enable(
    webhook_id: IdArgument,
    organization: OrganizationOption = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Begin to tell an endpoint again that was given up."""
    _call("POST", webhook_id, "/enable", organization, data_dir, as_json=as_json)


@webhook_app.command("delete")
def delete(
    webhook_id: IdArgument, organization: OrganizationOption = DEFAULT, data_dir: DataDirOption = DATA_DIR
) -> None:
    """Remove an endpoint, and what waits for it."""

    async def work() -> None:
        async with connect(data_dir) as client:
            await client.operator(
                "DELETE", f"/organizations/{quote(organization)}/webhooks/{quote(webhook_id)}"
            )
        print(f"deleted {webhook_id}")

    run(work())


def _call(
    method: str, webhook_id: str, verb: str, organization: str, data_dir: DataDirOption, *, as_json: bool
) -> None:
    async def work() -> None:
        async with connect(data_dir) as client:
            path = f"/organizations/{quote(organization)}/webhooks/{quote(webhook_id)}{verb}"
            found = await client.operator(method, path)
        show(found, as_json=as_json, rows=_rows(found))

    run(work())


def _rows(webhook: Any) -> list[tuple[str, object]]:  # noqa: ANN401 (JSON)
    return [
        ("webhook", webhook["webhook_id"]),
        ("url", webhook["url"]),
        ("types", ", ".join(webhook["types"]) or "everything"),
        ("delivered", webhook["delivered_at"]),
        ("failing since", webhook["failing_since"]),
        ("given up", webhook["disabled_at"]),
        ("last failure", webhook["last_failure"]),
    ]
