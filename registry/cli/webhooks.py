"""`crisper webhook`: endpoints that are told about groups, instances and tokens."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from registry.cli.ask import ask
from registry.cli.options import DATA_DIR, DEFAULT, DataDirOption, JsonOption, OrganizationOption
from registry.cli.output import show, table

webhook_app = typer.Typer(
    no_args_is_help=True, help="Endpoints that are told about groups, instances and tokens."
)

IdArgument = Annotated[str, typer.Argument(help="From `crisper webhook list`.")]


@webhook_app.command("create")
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
    body = {"url": url, "types": types or []}
    made = ask(data_dir, lambda client: client.operator("POST", _path(organization), body))
    show(made, as_json=as_json, rows=[*_rows(made), ("secret", made["secret"])])


@webhook_app.command("list")
def list_(
    organization: OrganizationOption = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """List an organization's endpoints, and how they do."""
    found = ask(data_dir, lambda client: client.operator("GET", _path(organization)))["items"]
    columns = {
        "ID": "webhook_id",
        "URL": "url",
        "TYPES": "types",
        "DELIVERED": "delivered_at",
        "FAILING SINCE": "failing_since",
        "GIVEN UP": "disabled_at",
    }
    table(found, columns, as_json=as_json, empty="No webhooks; register one: crisper webhook create URL")


@webhook_app.command("show")
def show_(
    webhook_id: IdArgument,
    organization: OrganizationOption = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show an endpoint, and how it does."""
    found = ask(data_dir, lambda client: client.operator("GET", _path(organization, webhook_id)))
    show(found, as_json=as_json, rows=_rows(found))


@webhook_app.command("enable")
def enable(
    webhook_id: IdArgument,
    organization: OrganizationOption = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Begin to tell an endpoint again that was given up."""
    path = f"{_path(organization, webhook_id)}/enable"
    found = ask(data_dir, lambda client: client.operator("POST", path))
    show(found, as_json=as_json, rows=_rows(found))


@webhook_app.command("delete")
def delete(
    webhook_id: IdArgument, organization: OrganizationOption = DEFAULT, data_dir: DataDirOption = DATA_DIR
) -> None:
    """Remove an endpoint, and what waits for it."""
    ask(data_dir, lambda client: client.operator("DELETE", _path(organization, webhook_id)))
    print(f"deleted {webhook_id}")


def _path(organization: str, webhook_id: str | None = None) -> str:
    base = f"/organizations/{quote(organization)}/webhooks"
    return base if webhook_id is None else f"{base}/{quote(webhook_id)}"


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
