"""`crisper instance`: the nodes that are assigned to a group."""

from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any
from urllib.parse import quote

import typer

from registry.cli.ask import ask
from registry.cli.client import ApiClient, ServerRefusedError
from registry.cli.options import DATA_DIR, DEFAULT, DataDirOption, JsonOption, OrganizationName, ProjectName
from registry.cli.output import say, table

instance_app = typer.Typer(
    no_args_is_help=True, help="Instances of groups: the nodes that are assigned to them."
)
GroupArgument = Annotated[str, typer.Argument(metavar="GROUP", help="Name of the group.")]
InstanceArgument = Annotated[str, typer.Argument(help="Instance id, from `crisper instance list GROUP`.")]


@instance_app.command("list")
def list_(
    name: GroupArgument,
    organization: OrganizationName = DEFAULT,
    project: ProjectName = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """List a group's instances: the nodes that are assigned to it.

    An operator's key also shows how it is known that a node has the image.
    """
    path = f"{quote(name)}/instances"
    group = f"/organizations/{quote(organization)}/projects/{quote(project)}/containers/{path}"

    async def listed(client: ApiClient) -> Any:  # noqa: ANN401 (JSON)
        found = (await client.group("GET", organization, project, path))["instances"]
        known = {}
        with suppress(ServerRefusedError):  # a customer's key
            operated = (await client.operator("GET", group))["items"]
            known = {each["instance_id"]: each["known_by"] for each in operated}
        return [{**each, "known_by": known.get(each["id"])} for each in found]

    found = ask(data_dir, listed)
    columns = {
        "ID": "id",
        "NODE": "node_id",
        "STATE": "state",
        "KNOWN BY": "known_by",
        "PULLED %": "pulling_progress",
        "VERSION": "version",
        "SINCE": "update_time",
    }
    empty = f"No instances. Assign a node: crisper token mint {name} --node NODE"
    table(found, columns, as_json=as_json, empty=empty)


def _add_action(action: str, help_: str, done: str) -> Callable[..., None]:
    """Add the command of an action on one instance, and return it."""

    @instance_app.command(action, help=help_)
    def run(
        group: GroupArgument,
        instance_id: InstanceArgument,
        organization: OrganizationName = DEFAULT,
        project: ProjectName = DEFAULT,
        data_dir: DataDirOption = DATA_DIR,
    ) -> None:
        path = f"{quote(group)}/instances/{quote(instance_id)}/{action}"
        ask(data_dir, lambda client: client.group("POST", organization, project, path))
        say(f"{done} {instance_id}")

    return run


_add_action("restart", "Request a restart of an instance's container.", "restart requested for")
_add_action("recreate", "Request that an instance's container is recreated.", "recreation requested for")
reallocate = _add_action(
    "reallocate",
    "Release an instance's node and revoke its tokens, so that another node can be assigned.",
    "reallocated",
)
