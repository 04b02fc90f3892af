"""`crisper event`: commands for the audit trail."""

from typing import Annotated

import typer

from registry.cli.client import connect
from registry.cli.options import DATA_DIR, DataDirOption
from registry.cli.output import print_json_line, run

event_app = typer.Typer(no_args_is_help=True, help="The audit trail. Needs an operator key.")

_PAGE = 1000


@event_app.callback()
def _group() -> None:
    """Keep the name of the only command."""


@event_app.command("export")
def export(
    after: Annotated[
        int, typer.Option(min=0, help="Cursor of the last event that an earlier export printed.")
    ] = 0,
    organization: Annotated[
        str | None, typer.Option("--organization", "-o", help="Only events of this organization.")
    ] = None,
    type_: Annotated[
        str | None, typer.Option("--type", help="Only events of this type, such as token.refused.")
    ] = None,
    data_dir: DataDirOption = DATA_DIR,
) -> None:
    """Print the audit trail, oldest first, one JSON document per line.

    The server removes events after CRISPER_EVENT_DAYS. To keep them longer, export regularly with the last
    printed `cursor` as --after.
    """
    filters = {"organization_name": organization, "type": type_, "limit": _PAGE}

    async def pages() -> None:
        cursor: int | None = after
        async with connect(data_dir) as client:
            while cursor is not None:
                page = await client.operator("GET", "/events", after=cursor, **filters)
                for event in page["items"]:
                    print_json_line(event)
                cursor = page["next_after"]

    run(pages())
