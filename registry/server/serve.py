"""`crisper serve`: one process, or a parent with one process per worker, and the ledger's child."""

import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from auth.ledger import LedgerAddress, LedgerAddressError
from registry.composition.identity import check_identity_settings
from registry.config import AdminRoute, Role, Settings
from registry.datadir import DataDir, write_atomically
from registry.errors import ConfigError
from registry.hosts import is_loopback
from registry.observe import configure_logging
from registry.server.connections import raise_descriptor_limit
from registry.server.first_start import ensure_secrets, prepare, refuse_missing
from registry.server.ledger_child import LedgerChild
from registry.server.prctl import forbid_core_dumps
from registry.server.process import Listeners, answer, bind, bind_admin, bind_for_proxy
from registry.server.workers import Workers
from registry.upstream.from_settings import check_upstream_settings

_LOCK_WAIT_S = 10.0


def serve(settings: Settings) -> None:
    """Run the server until SIGTERM or SIGINT.

    Raises:
        ConfigError: Settings or data folder are invalid.
    """
    forbid_core_dumps()
    settings.refuse_unsafe()
    _check_upstream_settings(settings)
    configure_logging(settings.log_level)
    os.umask(0o077)
    raise_descriptor_limit()
    if not os.isatty(sys.stdin.fileno() if sys.stdin else -1):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # reload of a service; only TLS handles it
    data = DataDir(settings.data_dir)
    creates_keys = Role.API in settings.roles and not settings.production
    if not creates_keys:
        refuse_missing(settings, data)
    data.create()
    lock = data.lock(_LOCK_WAIT_S)
    try:
        if creates_keys:
            ensure_secrets(settings, data)
        uvloop.run(_serve(settings, data, lock))
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):  # already stopping: ignore further signals
            signal.signal(number, signal.SIG_IGN)
        os.close(lock)


def _check_upstream_settings(settings: Settings) -> None:
    check_upstream_settings(settings)
    check_identity_settings(settings)
    try:
        LedgerAddress.parse(settings.redis_url or "unix:///embedded")
    except LedgerAddressError as error:
        raise ConfigError(f"CRISPER_REDIS_URL is invalid: {error}") from None


async def _serve(settings: Settings, data: DataDir, lock: int) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        redis_url = settings.redis_url or await _start_ledger(data, lock, stack)
        await prepare(settings, data)
        listeners = Listeners(
            bind(settings, shared=settings.workers > 1), bind_for_proxy(settings), bind_admin(settings)
        )
        for each in filter(None, (listeners.main, listeners.proxy, listeners.admin)):
            stack.callback(each.close)
        host, port = listeners.main.getsockname()[:2]
        settings = settings.model_copy(update={"port": port})
        url = _url(settings, host, port)
        admin_url = _admin_url(settings, listeners.admin)
        moved = admin_url is not None and AdminRoute.OPERATOR in settings.admin_routes
        address = {
            "url": url,
            "operator_url": admin_url if moved else url,
            "status_url": admin_url or url,
            "certificate": str(settings.tls_cert.absolute()) if settings.tls_cert else None,
            "pid": os.getpid(),
        }
        write_atomically(data.address, json.dumps(address).encode())
        stack.callback(data.address.unlink, missing_ok=True)

        async def ready() -> None:
            _announce(url, admin_url, data, settings)

        if settings.workers == 1:
            await answer(settings, data, redis_url, listeners, stopping=stopping, ready=ready)
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="crisper-metrics-"))
            workers = Workers(settings, redis_url, lock, Path(folder), listeners)
            await workers.run(stopping, ready)


async def _start_ledger(data: DataDir, lock: int, stack: AsyncExitStack) -> str:
    """Start the ledger first and stop it last, because draining responses still report to it."""
    ledger = LedgerChild(data.ledger, lock)
    stack.push_async_callback(ledger.stop)
    await ledger.start()
    watching = asyncio.create_task(ledger.watch())

    async def stop_watching() -> None:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    stack.push_async_callback(stop_watching)
    return ledger.url


def _url(settings: Settings, host: str, port: int) -> str:
    scheme = "https" if settings.tls_cert else "http"
    local = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"{scheme}://{local}:{port}"


def _admin_url(settings: Settings, listener: socket.socket | None) -> str | None:
    if listener is None:
        return None
    host, port = listener.getsockname()[:2]
    return _url(settings.model_copy(update={"tls_cert": None}) if is_loopback(host) else settings, host, port)


def _announce(url: str, admin_url: str | None, data: DataDir, settings: Settings) -> None:
    portal = admin_url if admin_url and AdminRoute.PORTAL in settings.admin_routes else url
    rows = {
        "administration": admin_url,
        "portal": f"{portal}/",
        "public URL": settings.public_url or "not set: references use the Host header of each request",
        "reachable": "from this machine only" if is_loopback(settings.host) else None,
        "data": data.root,
        "operator key": data.operator_key,
        "token ledger": "CRISPER_REDIS_URL" if settings.redis_url else "a child of this process",
        "next": "crisper image import IMAGE",
    }
    lines = [f"Crisper listens on {url}"]
    lines += [f"  {name:<14}{value}" for name, value in rows.items() if value is not None]
    unsafe = () if settings.production or is_loopback(settings.host) else settings.unsafe_for_strangers
    if unsafe:
        lines += ["Other machines can reach this server. CRISPER_ENV=production would refuse:"]
        lines += [f"  {line}" for line in unsafe]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
