"""`crisper quota`: commands for organizations' quotas."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from registry.cli.ask import ask
from registry.cli.options import DATA_DIR, DataDirOption, JsonOption
from registry.cli.output import fail, table
from registry.errors import InvalidInputError
from registry.model.quotas import parse_limit

quota_app = typer.Typer(no_args_is_help=True, help="Quotas of organizations.")

NameArgument = Annotated[str, typer.Argument(help="Name of the organization.")]


@quota_app.command("show")
def show_(name: NameArgument, data_dir: DataDirOption = DATA_DIR, as_json: JsonOption = False) -> None:
    """Show an organization's quotas and their use."""
    found = ask(data_dir, lambda client: client.operator("GET", _path(name)))
    _print(found, as_json=as_json)


@quota_app.command("set")
def set_(
    name: NameArgument,
    limits: Annotated[
        list[str],
        typer.Argument(
            metavar="QUOTA=LIMIT...",
            help="Limit: a number, also with a unit (2TB, 40GiB); `none` for no limit; or `default` for the "
            "server's default.",
        ),
    ],
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Change an organization's quotas. The others stay unchanged."""
    try:
        changes = dict(map(_parse, limits))
    except InvalidInputError as error:
        fail(error)
    found = ask(data_dir, lambda client: client.operator("PATCH", _path(name), changes))
    _print(found, as_json=as_json)


def _parse(limit: str) -> tuple[str, int | None]:
    quota, _, value = limit.partition("=")
    try:
        return quota.replace("-", "_"), parse_limit(value)
    except ValueError:
        raise InvalidInputError(
            f"{limit} is not a quota: write groups=100, stored_bytes=2TB, groups=none or groups=default"
        ) from None


def _print(found: Any, *, as_json: bool) -> None:  # noqa: ANN401 (JSON)
    rows = [
        {
            "name": name,
            "limit": quota["limit"] or "none",
            "used": "" if quota["used"] is None else quota["used"],
            "from": "default" if quota["is_default"] else "operator",
        }
        for name, quota in found["quotas"].items()
    ]
    columns = {"QUOTA": "name", "LIMIT": "limit", "USED": "used", "SET BY": "from"}
    table(rows, columns, as_json=as_json, empty="")


def _path(organization: str) -> str:
    return f"/organizations/{quote(organization)}/quotas"
