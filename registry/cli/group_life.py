"""`crisper group`: commands that change an existing group."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any
from urllib.parse import quote

import typer

from registry.cli.ask import ask
from registry.cli.client import ApiClient, ServerRefusedError
from registry.cli.groups import NameArgument, follow_import, show_followed, show_group
from registry.cli.options import DATA_DIR, DEFAULT, DataDirOption, JsonOption, OrganizationName, ProjectName
from registry.cli.output import say, table
from registry.cli.registry_login import (
    LoginKind,
    LoginOption,
    PasswordOption,
    UserOption,
    read_authentication,
)

InstanceArgument = Annotated[str, typer.Argument(help="Instance id, from `crisper group instances`.")]


def update(
    name: NameArgument,
    image: Annotated[str | None, typer.Option(help="Image of the next version.")] = None,
    pull: Annotated[
        bool, typer.Option(help="Import the image again, also if its reference is unchanged.")
    ] = False,
    replicas: Annotated[int | None, typer.Option(min=0, max=500)] = None,
    username: UserOption = None,
    password_stdin: PasswordOption = False,
    login: LoginOption = LoginKind.BASIC,
    organization: OrganizationName = DEFAULT,
    project: ProjectName = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Change a group. Imports a new image, or the same image with new credentials, and waits for the end."""
    body = _patch(image, replicas, read_authentication(login, username, password_stdin))

    path = f"{quote(name)}?pull=always" if pull else quote(name)

    async def work(client: ApiClient) -> Any:  # noqa: ANN401 (JSON)
        changed = await client.group("PATCH", organization, project, path, body)
        return await follow_import(client, organization, project, changed)

    show_followed(ask(data_dir, work), as_json=as_json)


def rollback(
    name: NameArgument,
    to: Annotated[
        int | None,
        typer.Option(
            min=1, help="The version.", show_default="the newest stored version but the group's own"
        ),
    ] = None,
    organization: OrganizationName = DEFAULT,
    project: ProjectName = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Return a group to an earlier version that is stored; nothing is imported."""
    body = {} if to is None else {"version": to}
    path = f"{quote(name)}/rollback"
    group = ask(data_dir, lambda client: client.group("POST", organization, project, path, body))
    show_group(group, as_json=as_json)


def start(
    name: NameArgument,
    organization: OrganizationName = DEFAULT,
    project: ProjectName = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
) -> None:
    """Start a group: at once, or as soon as its image is imported."""
    _post(f"{quote(name)}/start", organization, project, data_dir, f"started {name}")


def stop(
    name: NameArgument,
    organization: OrganizationName = DEFAULT,
    project: ProjectName = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
) -> None:
    """Stop a group: release its nodes and revoke their pull tokens."""
    _post(f"{quote(name)}/stop", organization, project, data_dir, f"stopped {name}")


def instances(
    name: NameArgument,
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


def reallocate(
    name: NameArgument,
    instance_id: InstanceArgument,
    organization: OrganizationName = DEFAULT,
    project: ProjectName = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
) -> None:
    """Release an instance's node and revoke its tokens, so that another node can take its place."""
    path = f"{quote(name)}/instances/{quote(instance_id)}/reallocate"
    _post(path, organization, project, data_dir, f"reallocated {instance_id}")


def register(group_app: typer.Typer) -> None:
    """Add these commands to `crisper group`."""
    for command in (update, rollback, start, stop, instances, reallocate):
        group_app.command()(command)


def _post(path: str, organization: str, project: str, data_dir: DataDirOption, done: str) -> None:
    ask(data_dir, lambda client: client.group("POST", organization, project, path))
    say(done)


def _patch(
    image: str | None, replicas: int | None, authentication: Mapping[str, Mapping[str, str]] | None
) -> dict[str, Any]:
    container: dict[str, object] = {}
    if image is not None:
        container["image"] = image
    if authentication is not None:
        container["registry_authentication"] = authentication
    patch: dict[str, Any] = {"container": container} if container else {}
    return patch if replicas is None else {**patch, "replicas": replicas}
