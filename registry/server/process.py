"""One server process: binds, serves, imports, and drains at its end."""

import asyncio
import gc
import grp
import os
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog
from aiohttp import web

from registry import tracing
from registry.composition.process import compose
from registry.config import Settings
from registry.datadir import DataDir
from registry.errors import ConfigError
from registry.hosts import is_loopback
from registry.imports.worker import ImportWorker
from registry.server.accepting import LimitedSite, follow_ends
from registry.server.connections import Connections, affordable
from registry.server.drain import Drain
from registry.server.tls import ServerTls, server_tls

_STOP_S = 15.0  # longer than the last pass of the event drain
_LINGER_S = 2.0  # for reading the rest of a request after its response
_BACKLOG = 1024
_ADMIN_CONNECTIONS = 128
_UNSENT_BYTES = 512 << 10  # the kernel keeps that much beyond what a client's window admits
_ALLOCATIONS = 20_000  # between garbage collections; reference counting frees nearly everything of a request
_log = structlog.get_logger(__name__)


def bind(settings: Settings, *, shared: bool) -> socket.socket:
    """Bind the server's address, without listening yet.

    Args:
        shared: Whether several processes serve the same port (SO_REUSEPORT).
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    _tune(listener, settings.stall_s)
    try:
        listener.bind((settings.host, settings.port))
    except OSError:
        listener.close()
        raise
    return listener


def bind_for_proxy(settings: Settings) -> socket.socket | None:
    """Bind the Unix socket for a proxy, and listen. Returns None if it is not configured.

    Every process that can open the socket is trusted as the proxy. Therefore only the server's user, and
    optionally one group, can open it.

    Raises:
        ConfigError: The group does not exist, or another file has this path.
    """
    path = settings.unix_socket
    if path is None:
        return None
    if path.is_socket():
        path.unlink()
    elif path.exists():
        raise ConfigError(f"{path} exists and is not a socket: remove it, or set another CRISPER_UNIX_SOCKET")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))  # 0600, because of the process's umask
        if settings.unix_socket_group is not None:
            os.chown(path, -1, grp.getgrnam(settings.unix_socket_group).gr_gid)
            path.chmod(0o660)
        listener.listen(_BACKLOG)
    except KeyError:
        listener.close()
        raise ConfigError(
            f"the group {settings.unix_socket_group} does not exist: check CRISPER_UNIX_SOCKET_GROUP"
        ) from None
    except OSError:
        listener.close()
        raise
    return listener


def _tune(listener: socket.socket, stall_s: float) -> None:
    """Let the kernel close connections whose client is gone or reads nothing, and keep little for them.

    The connections inherit the options (Linux).
    """
    for name, value in (
        ("TCP_USER_TIMEOUT", round(stall_s * 1000)),
        ("TCP_NOTSENT_LOWAT", _UNSENT_BYTES),
        ("TCP_KEEPIDLE", 60),
        ("TCP_KEEPINTVL", 15),
        ("TCP_KEEPCNT", 4),
    ):
        if (option := getattr(socket, name, None)) is not None:
            listener.setsockopt(socket.IPPROTO_TCP, option, value)


def _spare_the_collector() -> None:
    """Exclude permanent objects from garbage collection, and run it less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, 20, 50)


def bind_admin(settings: Settings) -> socket.socket | None:
    """Bind the administration listener, and listen. Returns None if there is none."""
    address = settings.admin_listener
    if address is None:
        return None
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listener = socket.create_server(address, family=family, backlog=_BACKLOG)
    _tune(listener, settings.stall_s)
    return listener


@dataclass(frozen=True, slots=True)
class Listeners:
    """The sockets of a process.

    Attributes:
        main: For customers and nodes; of this process only.
        proxy: From `bind_for_proxy`; several processes may share it.
        admin: From `bind_admin`; several processes may share it.
    """

    main: socket.socket
    proxy: socket.socket | None = None
    admin: socket.socket | None = None


async def answer(
    settings: Settings,
    data: DataDir,
    redis_url: str,
    listeners: Listeners,
    *,
    stopping: asyncio.Event,
    retiring: asyncio.Event | None = None,
    ready: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serve until `stopping`, then accept no connections, and wait `drain_s` for running requests.

    Args:
        retiring: Also ends the server, after another process has replaced it; running requests get an hour.
        ready: Called when the server is ready.
    """
    tls = server_tls(settings, data)
    tracing.configure(settings.service)
    async with compose(settings, data, redis_url) as composition, AsyncExitStack() as stack:
        if tls:
            _keep_fresh(tls, stack)
        if composition.upkeep:
            _until_the_end(composition.upkeep(), stack)
        importing = _start_importing(composition.worker, stack)
        drain = Drain(composition.main)
        connections = _connections(settings, composition.main)
        runner = web.AppRunner(
            composition.main,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=settings.drain_s,
            keepalive_timeout=settings.idle_s,
            lingering_time=_LINGER_S,
            auto_decompress=False,  # registry/api/http/bodies.py refuses a Content-Encoding
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        context = tls.context if tls else None
        sites: list[web.BaseSite] = _limited_sites(runner, listeners, connections, context)
        if listeners.admin and composition.admin:
            sites.append(await _admin_site(settings, composition.admin, listeners.admin, context, stack))
        for site in sites:
            await site.start()
        _spare_the_collector()
        _log.info("server.ready", pid=os.getpid())
        if ready:
            await ready()
        await _until(stopping, retiring, importing)
        _log.info("server.draining")
        if composition.worker:
            composition.worker.stop()
        for site in sites:
            await site.stop()
        if runner.server:
            patient = retiring is not None and retiring.is_set()
            await drain.run(runner.server, patient=patient, hurry=stopping)
    await asyncio.to_thread(tracing.close)


def _connections(settings: Settings, app: web.Application) -> Connections:
    """Return the bound on the connections that send the requests of an application."""
    connections = Connections(affordable(settings.connections), settings.address_connections)
    connections.watch(app)
    return connections


def _limited_sites(
    runner: web.AppRunner, listeners: Listeners, connections: Connections, context: ssl.SSLContext | None
) -> list[web.BaseSite]:
    """Return the sites of strangers and of the proxy, whose connections are bounded."""
    follow_ends(runner, connections)
    sites: list[web.BaseSite] = [LimitedSite(runner, listeners.main, connections, context)]
    if listeners.proxy:
        sites.append(LimitedSite(runner, listeners.proxy, connections))
    return sites


async def _admin_site(
    settings: Settings,
    app: web.Application,
    listener: socket.socket,
    context: ssl.SSLContext | None,
    stack: AsyncExitStack,
) -> LimitedSite:
    """Return the site of the administration listener. A loopback address needs no TLS.

    Its connections have a bound of their own, so that those of strangers never keep operators out.
    """
    connections = Connections(affordable(_ADMIN_CONNECTIONS), 0)
    connections.watch(app)
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        keepalive_timeout=settings.idle_s,
        auto_decompress=False,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    follow_ends(runner, connections)
    private = is_loopback(listener.getsockname()[0])
    return LimitedSite(runner, listener, connections, None if private else context)


def _start_importing(worker: ImportWorker | None, stack: AsyncExitStack) -> asyncio.Task[None] | None:
    """Start the import worker, if this process has one. It is stopped at the end."""
    if worker is None:
        return None
    task = asyncio.create_task(worker.run())

    async def finish() -> None:
        worker.stop()
        await task

    stack.push_async_callback(finish)
    return task


def _until_the_end(work: Awaitable[None], stack: AsyncExitStack) -> None:
    """Run a background task, and cancel it at the end."""
    task = asyncio.ensure_future(work)

    async def stop() -> None:
        task.cancel()
        _, running = await asyncio.wait([task], timeout=_STOP_S)
        if running:  # a library lost the cancellation; the end of the event loop cancels its tasks again
            _log.warning("server.task_not_stopped")

    stack.push_async_callback(stop)


def _keep_fresh(tls: ServerTls, stack: AsyncExitStack) -> None:
    """Reload the certificate on SIGHUP, and when its files change."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, tls.reload)
    _until_the_end(tls.watch(), stack)


async def _until(
    stopping: asyncio.Event, retiring: asyncio.Event | None, importing: asyncio.Task[None] | None
) -> None:
    """Wait for a signal to stop. The failure of the import worker also ends the whole process."""
    events = [event for event in (stopping, retiring) if event]
    waiting = [asyncio.create_task(event.wait()) for event in events]
    tasks: set[asyncio.Task[object]] = {*waiting, *([importing] if importing else [])}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
