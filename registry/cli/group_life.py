"""`crisper group`: commands that change an existing group."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote

import typer

from registry.cli.ask import ask
from registry.cli.client import ApiClient
from registry.cli.groups import NameArgument, follow_import, show_followed, show_group
from registry.cli.options import DATA_DIR, DEFAULT, DataDirOption, JsonOption, OrganizationName, ProjectName
from registry.cli.output import say
from registry.cli.registry_login import (
    LoginKind,
    LoginOption,
    PasswordOption,
    UserOption,
    read_authentication,
)


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


def edit(
    name: NameArgument,
    display_name: Annotated[str | None, typer.Option(help="Name that people see.")] = None,
    replicas: Annotated[int | None, typer.Option(min=0, max=500, help="Number of instances.")] = None,
    command: Annotated[
        list[str] | None, typer.Option(help="Word of the container's command. Repeat it for each word.")
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Environment variable to set. Repeatable."),
    ] = None,
    cpu: Annotated[int | None, typer.Option(min=1, help="Number of cores.")] = None,
    memory_mb: Annotated[int | None, typer.Option("--memory", min=1, help="Memory in MB.")] = None,
    organization: OrganizationName = DEFAULT,
    project: ProjectName = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Change what a group runs with; its image stays the same. What is not given stays unchanged."""
    resources = _given(cpu=cpu, memory=memory_mb)
    container = _given(
        command=command or None,
        environment_variables=_variables(env or []) or None,
        resources=resources or None,
    )
    body = _given(display_name=display_name, replicas=replicas, container=container or None)
    if not body:
        raise typer.BadParameter("there is nothing to change: give at least one option, see --help")
    path = quote(name)
    group = ask(data_dir, lambda client: client.group("PATCH", organization, project, path, body))
    show_group(group, as_json=as_json)


def _given(**fields: object) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _variables(lines: Sequence[str]) -> dict[str, str]:
    pairs = [line.partition("=") for line in lines]
    if wrong := [line for line, (name, sign, _) in zip(lines, pairs, strict=True) if not name or not sign]:
        raise typer.BadParameter(f"--env {wrong[0]}: write NAME=VALUE")
    return {name: value for name, _, value in pairs}


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


def register(group_app: typer.Typer) -> None:
    """Add these commands to `crisper group`."""
    for command in (update, edit, rollback, start, stop):
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
