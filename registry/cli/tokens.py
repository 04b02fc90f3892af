"""`crisper token`: pull tokens that work once, for one image, on one node."""

from typing import Annotated, Any

import typer

from registry.cli.client import connect
from registry.cli.options import (
    DATA_DIR,
    DEFAULT,
    DataDirOption,
    JsonOption,
    OrganizationOption,
    ProjectOption,
)
from registry.cli.output import run, show
from registry.ports import WantedVariant

token_app = typer.Typer(no_args_is_help=True, help="Pull tokens.")
TtlOption = Annotated[int | None, typer.Option("--ttl", min=1, max=900, help="Seconds to redeem it in.")]
TokenArgument = Annotated[str, typer.Argument(metavar="TOKEN_ID")]


@token_app.command("mint")
def mint(
    group: Annotated[str, typer.Argument(help="The container group's name.")],
    node: Annotated[str, typer.Option("--node", "-n", help="The node that will pull.")],
    organization: OrganizationOption = DEFAULT,
    project: ProjectOption = DEFAULT,
    ttl_s: Annotated[
        int | None, typer.Option("--ttl", min=1, max=900, help="Seconds to redeem it in.")
    ] = None,
    variant: Annotated[
        WantedVariant, typer.Option(help="Layers as they came, or in zstd where the image has that.")
    ] = WantedVariant.AUTO,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Mint a pull token for one node. It is shown once."""
    body = {
        "organization_name": organization,
        "project_name": project,
        "container_group_name": group,
        "node_id": node,
        "variant": variant.value,
    }
    if ttl_s is not None:
        body["ttl_s"] = ttl_s  # type: ignore[assignment]

    async def work() -> None:
        async with connect(data_dir) as client:
            minted = await client.operator("POST", "/pull-tokens", body)
        rows = [
            ("image", minted["image"]["reference"]),
            ("digest", minted["image"]["digest"]),
            ("variant", minted["image"]["variant"]),
            ("username", minted["username"]),
            ("token", minted["token"]),
            ("token id", minted["token_id"]),
            ("expires", minted["expires_at"]),
        ]
        show(minted, as_json=as_json, rows=rows)

    run(work())


@token_app.command("show")
def show_(token_id: TokenArgument, data_dir: DataDirOption = DATA_DIR, as_json: JsonOption = False) -> None:
    """Show a token's state and how far its pull is."""

    async def work() -> None:
        async with connect(data_dir) as client:
            _show(await client.operator("GET", f"/pull-tokens/{token_id}"), as_json=as_json)

    run(work())


@token_app.command("complete")
def complete(token_id: TokenArgument, data_dir: DataDirOption = DATA_DIR) -> None:
    """Say that the pull is complete: the token's session ends now."""

    async def work() -> None:
        async with connect(data_dir) as client:
            await client.operator("POST", f"/pull-tokens/{token_id}/complete")
        print(f"completed {token_id}")

    run(work())


@token_app.command("revoke")
def revoke(token_id: TokenArgument, data_dir: DataDirOption = DATA_DIR) -> None:
    """Revoke a token and the session that it opened, at once."""

    async def work() -> None:
        async with connect(data_dir) as client:
            await client.operator("DELETE", f"/pull-tokens/{token_id}")
        print(f"revoked {token_id}")

    run(work())


def _show(token: Any, *, as_json: bool) -> None:  # noqa: ANN401 (JSON)
    session = token.get("session") or {}
    rows = [
        ("state", token["state"]),
        ("node", token["node_id"]),
        ("image", token["image"]["reference"]),
        ("digest", token["image"]["digest"]),
        ("variant", token["image"]["variant"]),
        ("delivered", f"{session['bytes_delivered']} bytes" if session else None),
        ("last seen", session.get("last_seen")),
    ]
    show(token, as_json=as_json, rows=rows)
