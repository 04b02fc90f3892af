"""`crisper node`: commands that manage nodes, and a pull as a node."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from auth.jws import unverified_token_id
from auth.ports import Binding
from auth.secret import Secret
from registry.cli.ask import ask
from registry.cli.identity import NodeIdentity
from registry.cli.options import (
    DATA_DIR,
    ROOT,
    DataDirOption,
    JsonOption,
    NodeIdOption,
    NodeSecretOption,
    RootOption,
    YesOption,
)
from registry.cli.output import confirm, fail, follow, run, say, show, table
from registry.cli.platforms import this_platform
from registry.errors import ConfigError, NodeKeyError, RegistryError
from registry.model.imports import Progress, UpstreamCredential
from registry.model.nodes import Runtime
from registry.oci.node_key import MAX_PEM_CHARS, NodeKey
from registry.oci.platform import LINUX_AMD64, Platform
from registry.oci.reference import Reference
from registry.sizes import readable_bytes
from registry.upstream.client import UpstreamClient
from registry.upstream.egress import EgressGuard
from registry.upstream.layout import PulledImage, pull_to_layout

_SHORT_CHARS = 12
node_app = typer.Typer(no_args_is_help=True, help="Nodes.")
NodeArgument = Annotated[str, typer.Argument(metavar="NODE_ID")]
RuntimeOption = Annotated[
    Runtime | None,
    typer.Option(help="Container runtime of the node that has the private key.", show_default="unknown"),
]


@node_app.command("create")
def create(
    node_id: NodeArgument,
    binding: Annotated[Binding, typer.Option(help="How the node authenticates.")] = Binding.SECRET,
    network: Annotated[
        list[str] | None, typer.Option(help="Network (CIDR) from which the node may connect. Repeatable.")
    ] = None,
    zstd: Annotated[
        bool | None,
        typer.Option(
            help="Whether the node's engine supports zstd layers (Docker 23, containerd 1.5).",
            show_default="unknown",
        ),
    ] = None,
    platform: Annotated[
        str | None,
        typer.Option(
            help="Platform that the node runs, as linux/arm64. With a certificate, the node reports its own.",
            show_default="unknown",
        ),
    ] = None,
    encryption_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Public key for encrypted layers (PEM). With a certificate, the node announces its own.",
            show_default="none",
        ),
    ] = None,
    runtime: RuntimeOption = None,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Create a node. Its secret or enrolment secret is shown only once."""
    body = {
        "node_id": node_id,
        "binding": binding.value,
        "networks": network or [],
        "zstd": zstd,
        "platform": platform,
    }
    # A server of an earlier version refuses these fields.
    if encryption_key is not None:
        body["encryption_key"] = _read_public_key(encryption_key)
    if runtime is not None:
        body["runtime"] = runtime
    made = ask(data_dir, lambda client: client.operator("POST", "/nodes", body))
    show(made, as_json=as_json, rows=_shown_once(made))


@node_app.command("offer")
def offer(node_id: NodeArgument, data_dir: DataDirOption = DATA_DIR, as_json: JsonOption = False) -> None:
    """Create a new enrolment secret for a node whose secret or certificate has expired."""
    made = ask(data_dir, lambda client: client.operator("POST", f"{_path(node_id)}/enrolment"))
    show(made, as_json=as_json, rows=_shown_once(made))


@node_app.command("rotate-secret")
def rotate_secret(
    node_id: NodeArgument, data_dir: DataDirOption = DATA_DIR, as_json: JsonOption = False
) -> None:
    """Replace a node's secret and revoke its tokens. The new secret is shown only once."""
    made = ask(data_dir, lambda client: client.operator("POST", f"{_path(node_id)}/secret"))
    show(made, as_json=as_json, rows=_shown_once(made))


@node_app.command("list")
def list_(data_dir: DataDirOption = DATA_DIR, as_json: JsonOption = False) -> None:
    """List nodes."""
    found = ask(data_dir, lambda client: client.operator_list("/nodes"))
    columns = {
        "NODE": "node_id",
        "BINDING": "binding",
        "PLATFORM": "platform",
        "KEY": "short_thumbprint",
        "RUNTIME": "runtime",
        "NETWORKS": "networks",
        "REVOKED": "revoked_at",
    }
    if not as_json:
        found = [{**node, "short_thumbprint": _shortened(node.get("key_thumbprint"))} for node in found]
    table(found, columns, as_json=as_json, empty="No nodes. Create one: crisper node create NODE_ID")


@node_app.command("show")
def show_(node_id: NodeArgument, data_dir: DataDirOption = DATA_DIR, as_json: JsonOption = False) -> None:
    """Show a node."""
    node = ask(data_dir, lambda client: client.operator("GET", _path(node_id)))
    rows = [
        ("node", node["node_id"]),
        ("binding", node["binding"]),
        ("networks", ", ".join(node["networks"]) or "any"),
        ("platform", node["platform"]),
        ("supports zstd", {True: "yes", False: "no", None: None}[node["zstd"]]),
        ("encryption key", node.get("key_thumbprint")),
        ("previous key", node.get("previous_key_thumbprint")),
        ("runtime", node.get("runtime")),
        ("revoked", node["revoked_at"]),
    ]
    show(node, as_json=as_json, rows=rows)


@node_app.command("set-key")
def set_key(
    node_id: NodeArgument,
    public_key: Annotated[
        Path, typer.Argument(metavar="FILE", help="Public key of the node for encrypted layers (PEM).")
    ],
    runtime: RuntimeOption = None,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Set the encryption key of a node that does not announce one itself."""
    body = {"public_key": _read_public_key(public_key), "runtime": runtime}
    made = ask(data_dir, lambda client: client.operator("PUT", f"{_path(node_id)}/encryption-key", body))
    rows = [
        ("node", made["node_id"]),
        ("encryption key", made["key_thumbprint"]),
        ("previous key", made["previous_key_thumbprint"]),
        ("runtime", made["runtime"]),
    ]
    show(made, as_json=as_json, rows=rows)


@node_app.command("delete")
def delete(node_id: NodeArgument, yes: YesOption = False, data_dir: DataDirOption = DATA_DIR) -> None:
    """Delete a node and revoke its tokens. Its id cannot be used again."""
    confirm(f"Delete {node_id} and revoke its tokens? Its id cannot be used again.", yes=yes)
    ask(data_dir, lambda client: client.operator("DELETE", _path(node_id)))
    say(f"deleted {node_id}")


@node_app.command("pull")
def pull(
    reference: Annotated[
        str, typer.Argument(metavar="REF", help="Image reference that `crisper token mint` printed.")
    ],
    directory: Annotated[Path, typer.Option("--output", help="Folder for the OCI image layout.")],
    token: Annotated[
        str, typer.Option(envvar="CRISPER_PULL_TOKEN", help="Pull token. Prefer the environment variable.")
    ],
    node_id: NodeIdOption = None,
    secret: NodeSecretOption = None,
    platform: Annotated[
        str | None,
        typer.Option(help="Platform to pull, as linux/arm64.", show_default="that of the node"),
    ] = None,
    root: RootOption = ROOT,
    plain_http: Annotated[bool, typer.Option("--plain-http", help="Use HTTP without TLS.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Pull an image as a node, into an OCI image layout. Verifies all digests and sizes."""

    async def work() -> None:
        image = Reference.parse(reference)
        enrolled = NodeIdentity.at(root.absolute(), image.host)
        credential = _credential(image.host, enrolled, node_id, token, secret)
        chosen = _platform(platform, enrolled)
        # The operator chose this host: private addresses are allowed, and plain HTTP with --plain-http.
        listed = [image.host]
        guard = EgressGuard(insecure=listed) if plain_http else EgressGuard(private=listed)
        with follow(reference) as report:

            def on_progress(progress: Progress) -> None:
                percent = 100 * progress.bytes_done / progress.bytes_total if progress.bytes_total else None
                report(str(progress), percent)

            tls = enrolled.client_tls() if enrolled else None
            async with UpstreamClient(guard, ssl_context=tls) as client:
                try:
                    pulled = await pull_to_layout(
                        client,
                        image,
                        credential,
                        directory,
                        on_progress,
                        platform=chosen,
                        token_id=unverified_token_id(Secret(token)),
                    )
                except OSError as error:
                    raise RegistryError(f"{directory} cannot be written: {error.strerror}") from None
        _show_pulled(pulled, directory, as_json=as_json)

    run(work())


def _show_pulled(pulled: PulledImage, directory: Path, *, as_json: bool) -> None:
    document = {
        "digest": str(pulled.digest),
        "manifest_digest": str(pulled.manifest_digest),
        "platform": pulled.platform,
        "size": pulled.size_bytes,
        "directory": str(directory),
        "reported": pulled.is_reported,
    }
    rows = [
        ("digest", document["digest"]),
        ("platform", document["platform"]),
        ("size", readable_bytes(pulled.size_bytes)),
        ("layout", document["directory"]),
        ("reported complete", "yes" if pulled.is_reported else "no"),
    ]
    show(document, as_json=as_json, rows=rows)


def _path(node_id: str) -> str:
    return f"/nodes/{quote(node_id, safe='')}"


def _read_public_key(path: Path) -> str:
    """Read a public key and check it here, so that a private key is never sent."""
    try:
        with path.open("rb") as file:
            return NodeKey.parse(file.read(MAX_PEM_CHARS + 1)).pem
    except OSError as error:
        fail(ConfigError(f"{path} cannot be read: {error.strerror}"))
    except NodeKeyError as error:
        fail(ConfigError(f"{path}: {error}"))


def _shortened(thumbprint: str | None) -> str | None:
    return thumbprint[:_SHORT_CHARS] if thumbprint else None


def _platform(given: str | None, enrolled: NodeIdentity | None) -> Platform:
    name = given or (enrolled.platform if enrolled else None)
    return Platform.parse(name) if name else this_platform() or LINUX_AMD64


def _credential(
    host: str, enrolled: NodeIdentity | None, node_id: str | None, token: str, secret: str | None
) -> UpstreamCredential:
    """Choose how the node authenticates: by its secret, or else by its certificate."""
    name = node_id or (enrolled.node_id if enrolled else None)
    if name is None or not (secret or enrolled):
        raise ConfigError(
            f"this machine has no certificate for {host}: run `crisper node enroll https://{host} NODE_ID`, "
            "or set --node-id and CRISPER_NODE_SECRET"
        )
    return UpstreamCredential(name, Secret(f"{token}~{secret}" if secret else token))


def _shown_once(made: Any) -> list[tuple[str, object]]:  # noqa: ANN401 (JSON)
    if "node_secret" in made:
        return [("node", made["node_id"]), ("secret", made["node_secret"])]
    return [
        ("node", made["node_id"]),
        ("enrolment secret", made["enrolment_secret"]),
        ("expires", made["expires_at"]),
    ]
