"""`crisper token`: pull tokens that work once, for one image, on one node."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from registry.cli.ask import ask
from registry.cli.options import DATA_DIR, DEFAULT, DataDirOption, JsonOption, OrganizationName, ProjectName
from registry.cli.output import say, show, table
from registry.model.encryption import Encryption
from registry.model.images import WantedVariant
from registry.sizes import readable_bytes

token_app = typer.Typer(no_args_is_help=True, help="Pull tokens.")
TtlOption = Annotated[
    int | None, typer.Option("--ttl", min=1, max=900, help="Seconds until the token expires.")
]
TokenArgument = Annotated[str, typer.Argument(metavar="TOKEN_ID")]


@token_app.command("mint")
def mint(
    group: Annotated[str, typer.Argument(help="Name of the container group.")],
    node: Annotated[str, typer.Option("--node", "-n", help="Id of the node that will pull.")],
    organization: OrganizationName = DEFAULT,
    project: ProjectName = DEFAULT,
    ttl_s: TtlOption = None,
    variant: Annotated[
        WantedVariant, typer.Option(help="Original layers, or zstd layers if the image has them.")
    ] = WantedVariant.AUTO,
    encryption: Annotated[
        Encryption | None,
        typer.Option(help="Whether layers are encrypted for the node's key.", show_default="by policy"),
    ] = None,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Mint a pull token for one node. It is shown only once."""
    body: dict[str, Any] = {
        "organization_name": organization,
        "project_name": project,
        "container_group_name": group,
        "node_id": node,
        "variant": variant.value,
    }
    if ttl_s is not None:
        body["ttl_s"] = ttl_s
    if encryption is not None:
        body["encryption"] = encryption.value
    minted = ask(data_dir, lambda client: client.operator("POST", "/pull-tokens", body))
    rows = [
        ("image", minted["image"]["reference"]),
        ("digest", minted["image"]["digest"]),
        ("variant", minted["image"]["variant"]),
        ("layers", layers_of(minted, minted["username"])),
        ("username", minted["username"]),
        ("token", minted["token"]),
        ("token id", minted["token_id"]),
        ("expires", minted["expires_at"]),
    ]
    show(minted, as_json=as_json, rows=rows)


@token_app.command("list")
def list_(
    organization: Annotated[
        str | None, typer.Option("--organization", "-o", help="Only tokens of this organization.")
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", "-g", help="Only tokens of groups of this name.")
    ] = None,
    node: Annotated[str | None, typer.Option("--node", "-n", help="Only tokens of this node.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Number of tokens, newest first.")] = 100,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """List pull tokens and their states, of all organizations. Needs an operator key."""
    only = {"organization_name": organization, "container_group_name": group, "node_id": node, "limit": limit}
    found = ask(data_dir, lambda client: client.operator("GET", "/pull-tokens", **only))["items"]
    columns = {
        "TOKEN ID": "token_id",
        "STATE": "state",
        "NODE": "node_id",
        "ORGANIZATION": "organization_name",
        "GROUP": "container_group_name",
        "VERSION": "version",
        "MINTED": "minted_at",
    }
    table(found, columns, as_json=as_json, empty="No tokens. Mint one: crisper token mint GROUP --node NODE")


@token_app.command("show")
def show_(token_id: TokenArgument, data_dir: DataDirOption = DATA_DIR, as_json: JsonOption = False) -> None:
    """Show a token's state and the progress of its pull."""
    _show(ask(data_dir, lambda client: client.operator("GET", _path(token_id))), as_json=as_json)


@token_app.command("complete")
def complete(token_id: TokenArgument, data_dir: DataDirOption = DATA_DIR) -> None:
    """Mark a pull as complete, which ends the token's session."""
    ask(data_dir, lambda client: client.operator("POST", f"{_path(token_id)}/complete"))
    say(f"completed {token_id}")


@token_app.command("revoke")
def revoke(token_id: TokenArgument, data_dir: DataDirOption = DATA_DIR) -> None:
    """Revoke a token and its session with immediate effect."""
    ask(data_dir, lambda client: client.operator("DELETE", _path(token_id)))
    say(f"revoked {token_id}")


def layers_of(token: Any, node_id: str) -> str:  # noqa: ANN401 (JSON)
    """Return the words that say how a token's layers are delivered."""
    thumbprint = token["image"]["key_thumbprint"]
    return f"ciphertext for {node_id}'s key {thumbprint[:12]}..." if thumbprint else "plaintext"


def _path(token_id: str) -> str:
    return f"/pull-tokens/{quote(token_id, safe='')}"


def _show(token: Any, *, as_json: bool) -> None:  # noqa: ANN401 (JSON)
    session = token.get("session") or {}
    rows = [
        ("state", token["state"]),
        ("node", token["node_id"]),
        ("image", token["image"]["reference"]),
        ("digest", token["image"]["digest"]),
        ("variant", token["image"]["variant"]),
        ("layers", layers_of(token, token["node_id"])),
        ("delivered", readable_bytes(session["bytes_delivered"]) if session else None),
        ("last seen", session.get("last_seen")),
    ]
    show(token, as_json=as_json, rows=rows)
