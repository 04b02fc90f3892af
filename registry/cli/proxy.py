"""`crisper node proxy`, which runs on a node."""

import ssl
from pathlib import Path
from typing import Annotated

import typer

from auth.secret import Secret
from registry.cli.identity import NodeIdentity
from registry.cli.options import ROOT, EdgeOption, NodeIdOption, NodeSecretOption, RootOption
from registry.cli.output import run, say
from registry.errors import ConfigError
from registry.hosts import RegistryAddress, listener_address
from registry.node_proxy.serve import ProxySettings, serve
from registry.observe import configure_logging

_KEYS = Path("etc/crisper/keys")
_GB = 10**9


def proxy(
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Loopback address.")] = "127.0.0.1:5100",
    cache: Annotated[Path, typer.Option(metavar="DIR", help="Folder for encrypted layers.")] = Path(
        "/var/cache/crisper-proxy"
    ),
    cache_size: Annotated[int, typer.Option(metavar="GB", min=1, help="Maximum size of the folder.")] = 20,
    secret_file: Annotated[
        Path, typer.Option("--secret", metavar="FILE", help="Secret for clients. Created if missing.")
    ] = Path("/var/lib/crisper-proxy/secret"),
    registry: Annotated[
        str | None,
        typer.Option(metavar="URL", help="URL of the registry.", show_default="as enrolled on this machine"),
    ] = None,
    node_id: NodeIdOption = None,
    node_secret: NodeSecretOption = None,
    keys: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the node's private keys.", show_default=f"/{_KEYS}"),
    ] = None,
    edge: EdgeOption = None,
    root: RootOption = ROOT,
) -> None:
    """Serve encrypted images to Docker on this machine, with their original manifests and layers."""
    configure_logging("info")

    async def work() -> None:
        identity = _identity(root.absolute(), registry)
        if identity is None and not (registry and node_id and node_secret):
            raise ConfigError(
                "this machine is not enrolled: run `crisper node enroll URL NODE_ID --runtime proxy`, or set "
                "--registry, --node-id and CRISPER_NODE_SECRET"
            )
        try:
            host, port = listener_address(listen)
        except ValueError as error:
            raise ConfigError(f"--listen: {error}") from None
        settings = ProxySettings(
            host=host,
            port=port,
            cache_folder=cache,
            cache_bytes=cache_size * _GB,
            secret_file=secret_file,
            url=RegistryAddress.parse(registry).url if registry else identity.url if identity else "",
            node_id=node_id or (identity.node_id if identity else ""),
            node_secret=Secret(node_secret) if node_secret else None,
            tls=_CurrentTls(identity) if identity else _SystemTls(),
            key_folder=keys or root / _KEYS,
            edge=edge or (identity.edge if identity else None),
        )
        await serve(settings, lambda address: say(f"listening on {address}"))

    run(work())


class _SystemTls:
    """TLS without a certificate of the node."""

    def __init__(self) -> None:
        self._context = ssl.create_default_context()

    def __call__(self) -> ssl.SSLContext:
        return self._context


class _CurrentTls:
    """TLS with the node's certificate, which is renewed while the proxy runs."""

    def __init__(self, identity: NodeIdentity) -> None:
        self._identity = identity
        self._context = identity.client_tls()
        self._loaded = self._modified()

    def __call__(self) -> ssl.SSLContext:
        if self._modified() != self._loaded:
            self._loaded, self._context = self._modified(), self._identity.client_tls()
        return self._context

    def _modified(self) -> int:
        return (self._identity.folder / "node.crt").stat().st_mtime_ns


def _identity(root: Path, registry: str | None) -> NodeIdentity | None:
    """Return this machine's identity at the registry; without a URL, its only identity."""
    if registry is not None:
        return NodeIdentity.at(root, RegistryAddress.parse(registry).host)
    identities = NodeIdentity.enrolled(root)
    if len(identities) > 1:
        names = ", ".join(each.url for each in identities)
        raise ConfigError(f"this machine is enrolled at several registries: choose with --registry ({names})")
    return next(iter(identities), None)
