"""`crisper webhook`: commands for webhooks, which receive an organization's events."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from registry.cli.ask import ask
from registry.cli.options import DATA_DIR, DEFAULT, DataDirOption, JsonOption, OrganizationName, YesOption
from registry.cli.output import confirm, say, show, table

webhook_app = typer.Typer(no_args_is_help=True, help="Webhooks for events of groups, instances and tokens.")

IdArgument = Annotated[str, typer.Argument(help="Webhook id, from `crisper webhook list`.")]


@webhook_app.command("create")
def create(
    url: Annotated[str, typer.Argument(help="https:// URL at a public address.")],
    types: Annotated[
        list[str] | None,
        typer.Option(
            "--type", help="Event type, such as group.imported or 'token.*'. Repeatable; default: all."
        ),
    ] = None,
    organization: OrganizationName = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Create a webhook. Its signing secret is shown only once."""
    body = {"url": url, "types": types or []}
    made = ask(data_dir, lambda client: client.operator("POST", _path(organization), body))
    show(made, as_json=as_json, rows=[*_rows(made), ("secret", made["secret"])])


@webhook_app.command("list")
def list_(
    organization: OrganizationName = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """List an organization's webhooks and their state."""
    found = ask(data_dir, lambda client: client.operator("GET", _path(organization)))["items"]
    columns = {
        "ID": "webhook_id",
        "URL": "url",
        "TYPES": "types",
        "DELIVERED": "delivered_at",
        "FAILING SINCE": "failing_since",
        "DISABLED": "disabled_at",
    }
    table(found, columns, as_json=as_json, empty="No webhooks. Create one: crisper webhook create URL")


@webhook_app.command("show")
def show_(
    webhook_id: IdArgument,
    organization: OrganizationName = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show a webhook and its state."""
    found = ask(data_dir, lambda client: client.operator("GET", _path(organization, webhook_id)))
    show(found, as_json=as_json, rows=_rows(found))


@webhook_app.command("enable")
def enable(
    webhook_id: IdArgument,
    organization: OrganizationName = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Resume deliveries to a disabled webhook."""
    path = f"{_path(organization, webhook_id)}/enable"
    found = ask(data_dir, lambda client: client.operator("POST", path))
    show(found, as_json=as_json, rows=_rows(found))


@webhook_app.command("delete")
def delete(
    webhook_id: IdArgument,
    organization: OrganizationName = DEFAULT,
    yes: YesOption = False,
    data_dir: DataDirOption = DATA_DIR,
) -> None:
    """Delete a webhook and its pending messages."""
    confirm(f"Delete the webhook {webhook_id} and its pending messages?", yes=yes)
    ask(data_dir, lambda client: client.operator("DELETE", _path(organization, webhook_id)))
    say(f"deleted {webhook_id}")


def _path(organization: str, webhook_id: str | None = None) -> str:
    base = f"/organizations/{quote(organization)}/webhooks"
    return base if webhook_id is None else f"{base}/{quote(webhook_id)}"


def _rows(webhook: Any) -> list[tuple[str, object]]:  # noqa: ANN401 (JSON)
    return [
        ("webhook", webhook["webhook_id"]),
        ("url", webhook["url"]),
        ("types", ", ".join(webhook["types"]) or "all"),
        ("delivered", webhook["delivered_at"]),
        ("failing since", webhook["failing_since"]),
        ("disabled", webhook["disabled_at"]),
        ("last failure", webhook["last_failure"]),
    ]
