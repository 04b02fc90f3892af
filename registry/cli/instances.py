"""`crisper instance`: the nodes that are assigned to a group."""

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


@instance_app.command("restart")
def restart(
    group: GroupArgument,
    instance_id: InstanceArgument,
    organization: OrganizationName = DEFAULT,
    project: ProjectName = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
) -> None:
    """Ask the scheduler to restart an instance's container on its node."""
    _post(group, instance_id, "restart", organization, project, data_dir)


@instance_app.command("recreate")
def recreate(
    group: GroupArgument,
    instance_id: InstanceArgument,
    organization: OrganizationName = DEFAULT,
    project: ProjectName = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
) -> None:
    """Ask the scheduler to create an instance's container anew on its node."""
    _post(group, instance_id, "recreate", organization, project, data_dir)


@instance_app.command("reallocate")
def reallocate(
    group: GroupArgument,
    instance_id: InstanceArgument,
    organization: OrganizationName = DEFAULT,
    project: ProjectName = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
) -> None:
    """Release an instance's node and revoke its tokens, so that another node can take its place."""
    _post(group, instance_id, "reallocate", organization, project, data_dir)


def _post(
    group: str, instance_id: str, action: str, organization: str, project: str, data_dir: DataDirOption
) -> None:
    path = f"{quote(group)}/instances/{quote(instance_id)}/{action}"
    ask(data_dir, lambda client: client.group("POST", organization, project, path))
    say(f"{action} requested for {instance_id}" if action != "reallocate" else f"reallocated {instance_id}")
