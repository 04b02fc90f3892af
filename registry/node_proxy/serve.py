"""Process of the proxy."""

import asyncio
import signal
import ssl
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from yarl import URL

from auth.secret import Secret
from registry.errors import ConfigError
from registry.hosts import is_loopback
from registry.node_proxy.access import LocalAccess, load_or_create_secret
from registry.node_proxy.api import ProxyApi
from registry.node_proxy.cache import LayerCache
from registry.node_proxy.registry_session import Registry

_SHUTDOWN_S = 3.0
_KEEPALIVE_S = 30.0


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """Settings of the proxy.

    Attributes:
        host: Loopback address to listen on.
        secret_file: Created if missing.
        url: URL of the registry.
        node_secret: Secret of a node without a certificate.
        tls: Returns the TLS context with the node's current certificate.
        key_folder: Folder of the node's private keys.
        edge: URL of the edge cache that this node uses; None for the one that the registry names.
    """

    host: str
    port: int
    cache_folder: Path
    cache_bytes: int
    secret_file: Path
    url: str
    node_id: str
    node_secret: Secret | None
    tls: Callable[[], ssl.SSLContext]
    key_folder: Path
    edge: str | None = None


async def serve(settings: ProxySettings, on_listening: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        on_listening: Called with the address when the proxy accepts connections.

    Raises:
        ConfigError: The settings are unsafe, or an address or folder cannot be used.
    """
    if not is_loopback(settings.host):
        raise ConfigError("the proxy must listen on a loopback address: use --listen 127.0.0.1:5100")
    registry_host = URL(settings.url)
    if registry_host.scheme != "https" and not is_loopback(registry_host.host or ""):
        raise ConfigError("the registry's URL must start with https://: pull tokens need TLS")
    secret = load_or_create_secret(settings.secret_file)
    own = (settings.url, settings.node_id, settings.node_secret, settings.tls)
    hosts = {f"{name}:{settings.port}" for name in ("127.0.0.1", "localhost", "[::1]")}
    with closing(LayerCache(settings.cache_folder, settings.cache_bytes)) as cache:
        async with Registry.open(*own, edge=settings.edge) as registry:
            api = ProxyApi(LocalAccess(secret, hosts), registry, cache, settings.key_folder)
            await _listen(api.app(), settings, on_listening)


async def _listen(app: web.Application, settings: ProxySettings, on_listening: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=True,  # a client that has gone stops its download
        keepalive_timeout=_KEEPALIVE_S,
        shutdown_timeout=_SHUTDOWN_S,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
        on_listening(f"{settings.host}:{settings.port}")
        await stop.wait()
    except OSError as error:
        raise ConfigError(f"the proxy cannot listen on {settings.host}: {error.strerror}") from None
    finally:
        await runner.cleanup()
