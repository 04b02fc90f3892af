"""`crisper group` and `crisper image`: container groups and their image imports."""

import asyncio
import re
import secrets
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from registry.cli.ask import ask
from registry.cli.client import ApiClient
from registry.cli.images import image_app
from registry.cli.options import (
    DATA_DIR,
    DEFAULT,
    DataDirOption,
    JsonOption,
    OrganizationName,
    ProjectName,
    YesOption,
)
from registry.cli.output import confirm, fail, follow, say, show, table
from registry.cli.registry_login import (
    LoginKind,
    LoginOption,
    PasswordOption,
    UserOption,
    read_authentication,
)
from registry.errors import RegistryError
from registry.sizes import readable_bytes

group_app = typer.Typer(no_args_is_help=True, help="Container groups.")

ImageArgument = Annotated[str, typer.Argument(help="Image reference, for example ghcr.io/acme/app:1.2.")]
NameArgument = Annotated[str, typer.Argument(help="Name of the group.")]
ReplicasOption = Annotated[int, typer.Option(min=0, max=500, help="Number of instances.")]

_PERCENT = re.compile(r"(\d+) %")
_FAILED_VERSION = re.compile(r"version \d+ failed")
_POLL_S = 0.3


@group_app.command("create")
def create(
    name: NameArgument,
    image: ImageArgument,
    organization: OrganizationName = DEFAULT,
    project: ProjectName = DEFAULT,
    username: UserOption = None,
    password_stdin: PasswordOption = False,
    login: LoginOption = LoginKind.BASIC,
    replicas: ReplicasOption = 1,
    follow_it: Annotated[
        bool, typer.Option("--follow", help="Wait until the import ends, and show its progress.")
    ] = False,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Create a container group. Its image is imported in the background."""
    body = _request(name, image, read_authentication(login, username, password_stdin), replicas)

    async def work(client: ApiClient) -> Any:  # noqa: ANN401 (JSON)
        created = await client.groups("POST", organization, project, body=body)
        return await follow_import(client, organization, project, created) if follow_it else created

    show_followed(ask(data_dir, work), as_json=as_json)


@group_app.command("follow")
def follow_(
    name: NameArgument,
    organization: OrganizationName = DEFAULT,
    project: ProjectName = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Wait until a container group's import ends, and show its progress."""

    async def work(client: ApiClient) -> Any:  # noqa: ANN401 (JSON)
        group = await client.groups("GET", organization, project, name)
        return await follow_import(client, organization, project, group)

    show_followed(ask(data_dir, work), as_json=as_json)


@group_app.command("list")
def list_(
    organization: OrganizationName = DEFAULT,
    project: ProjectName = DEFAULT,
    every: Annotated[
        bool,
        typer.Option("--all", help="Of all organizations that have this project. Needs an operator key."),
    ] = False,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """List a project's container groups."""
    found = ask(data_dir, lambda client: client.group_list(None if every else organization, project))
    columns = {
        **({"ORGANIZATION": "organization_name"} if every else {}),
        "NAME": "name",
        "STATUS": "current_state.status",
        "IMAGE": "container.image",
        "DETAIL": "current_state.description",
    }
    table(found, columns, as_json=as_json, empty="No groups. Create one: crisper group create NAME IMAGE")


@group_app.command("show")
def show_(
    name: NameArgument,
    organization: OrganizationName = DEFAULT,
    project: ProjectName = DEFAULT,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show a container group."""
    group = ask(data_dir, lambda client: client.groups("GET", organization, project, name))
    show_group(group, as_json=as_json)


@group_app.command("delete")
def delete(
    name: NameArgument,
    organization: OrganizationName = DEFAULT,
    project: ProjectName = DEFAULT,
    yes: YesOption = False,
    data_dir: DataDirOption = DATA_DIR,
) -> None:
    """Delete a container group, stop its import and revoke its tokens."""
    confirm(f"Delete {organization}/{project}/{name}, release its nodes and revoke their tokens?", yes=yes)
    ask(data_dir, lambda client: client.groups("DELETE", organization, project, name))
    say(f"deleted {organization}/{project}/{name}")


@image_app.command("import")
def import_(
    image: ImageArgument,
    name: Annotated[
        str | None, typer.Option(help="Name of the group.", show_default="from the image")
    ] = None,
    organization: OrganizationName = DEFAULT,
    project: ProjectName = DEFAULT,
    username: UserOption = None,
    password_stdin: PasswordOption = False,
    login: LoginOption = LoginKind.BASIC,
    replicas: ReplicasOption = 1,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Create a group for IMAGE, and wait until its import ends."""
    body = _request(
        name or _name_for(image), image, read_authentication(login, username, password_stdin), replicas
    )

    async def work(client: ApiClient) -> Any:  # noqa: ANN401 (JSON)
        created = await client.groups("POST", organization, project, body=body)
        return await follow_import(client, organization, project, created)

    show_followed(ask(data_dir, work), as_json=as_json)


class ImportFailedError(RegistryError):
    """The import failed. The message is the server's."""


async def follow_import(client: ApiClient, organization: str, project: str, group: Any) -> Any:  # noqa: ANN401 (JSON)
    """Show a group's import until it ends. Returns the group after that."""
    with follow(group["container"]["image"]) as report:
        while (state := group["current_state"])["status"] == "pending":
            text = state["description"] or "pending"
            percent = _PERCENT.search(text)
            report(text, float(percent[1]) if percent else None)
            await asyncio.sleep(_POLL_S)
            group = await client.groups("GET", organization, project, group["name"])
        ready = not _has_failed(state)
        report("ready" if ready else "failed", 100 if ready else None)
    return group


def _request(
    name: str, image: str, authentication: Mapping[str, Mapping[str, str]] | None, replicas: int
) -> dict[str, object]:
    container: dict[str, object] = {"image": image, "resources": {"cpu": 1, "memory": 1024}}
    if authentication is not None:
        container["registry_authentication"] = authentication
    return {
        "name": name,
        "container": container,
        "autostart_policy": False,
        "restart_policy": "always",
        "replicas": replicas,
    }


def _name_for(image: str) -> str:
    last = image.partition("@")[0].rsplit("/", 1)[-1]
    words = re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-")[:50]
    return f"{words if words[:1].isalpha() else f'image-{words}'}-{secrets.token_hex(3)}"


def show_followed(group: Any, *, as_json: bool) -> None:  # noqa: ANN401 (JSON)
    """Print a group whose import has ended. If the import failed, so does the command."""
    show_group(group, as_json=as_json)
    if _has_failed(group["current_state"]):
        fail(ImportFailedError(group["current_state"]["description"]))


def _has_failed(state: Any) -> bool:  # noqa: ANN401 (JSON)
    return state["status"] == "failed" or bool(_FAILED_VERSION.match(state["description"] or ""))


def show_group(group: Any, *, as_json: bool) -> None:  # noqa: ANN401 (JSON)
    """Print a group."""
    container, state = group["container"], group["current_state"]
    rows = [
        ("group", f"{group['organization_name']}/{group['project_name']}/{group['name']}"),
        ("image", container["image"]),
        ("status", state["status"]),
        ("detail", state["description"] or None),
        ("digest", container.get("hash")),
        ("size", readable_bytes(container["size"]) if container.get("size") else None),
        ("version", group["version"]),
    ]
    show(group, as_json=as_json, rows=rows)
