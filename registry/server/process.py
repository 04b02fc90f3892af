"""One server process: binds, answers, imports, and drains before it goes."""

import asyncio
import gc
import grp
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import structlog
from aiohttp import web

from registry import tracing
from registry.app import compose
from registry.config import Settings
from registry.datadir import DataDir
from registry.errors import ConfigError
from registry.imports.worker import ImportWorker
from registry.server.drain import Drain
from registry.server.tls import ServerTls, server_tls

_LINGER_S = 2.0  # how long what is left of a request is read after its answer
_BACKLOG = 1024
_ALLOCATIONS = 20_000  # between searches for garbage; requests leave hardly any that counting does not free
_log = structlog.get_logger(__name__)


def bind(settings: Settings, *, shared: bool) -> socket.socket:
    """Bind the server's address, not yet listening.

    Args:
        shared: Whether several processes answer at the same port (SO_REUSEPORT).
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    _give_up_on_the_dead(listener, settings.stall_s)
    try:
        listener.bind((settings.host, settings.port))
    except OSError:
        listener.close()
        raise
    return listener


def bind_for_proxy(settings: Settings) -> socket.socket | None:
    """Bind the unix socket for a proxy, listening; None where none is wanted.

    Whoever can open it is taken for the proxy, so it is for the server's user, and one group at most.

    Raises:
        ConfigError: There is no such group, or another file is in the way.
    """
    path = settings.unix_socket
    if path is None:
        return None
    if path.is_socket():
        path.unlink()
    elif path.exists():
        raise ConfigError(f"{path} is in the way of the unix socket")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))  # 0600: the process masks everybody else
        if settings.unix_socket_group is not None:
            os.chown(path, -1, grp.getgrnam(settings.unix_socket_group).gr_gid)
            path.chmod(0o660)
        listener.listen(_BACKLOG)
    except KeyError:
        listener.close()
        raise ConfigError(f"there is no group {settings.unix_socket_group} for the unix socket") from None
    except OSError:
        listener.close()
        raise
    return listener


def _give_up_on_the_dead(listener: socket.socket, stall_s: float) -> None:
    """Have the kernel end connections whose client is gone or takes nothing; they inherit this (Linux)."""
    for name, value in (
        ("TCP_USER_TIMEOUT", round(stall_s * 1000)),
        ("TCP_KEEPIDLE", 60),
        ("TCP_KEEPINTVL", 15),
        ("TCP_KEEPCNT", 4),
    ):
        if (option := getattr(socket, name, None)) is not None:
            listener.setsockopt(socket.IPPROTO_TCP, option, value)


def _spare_the_collector() -> None:
    """Keep what a process holds for good out of every later search for garbage, and search seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, 20, 50)


async def answer(
    settings: Settings,
    data: DataDir,
    redis_url: str,
    listener: socket.socket,
    *,
    for_proxy: socket.socket | None = None,
    stopping: asyncio.Event,
    retiring: asyncio.Event | None = None,
    ready: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serve until `stopping`, then drain: no new connections, running requests to their end or `drain_s`.

    Args:
        for_proxy: From `bind_for_proxy`; several processes may share it.
        retiring: Ends it too, once another process answers in its place: running requests get an hour.
        ready: Called once the port answers.
    """
    tls = server_tls(settings, data)
    tracing.configure(settings.service)
    async with compose(settings, data, redis_url) as composition, AsyncExitStack() as stack:
        if tls:
            _keep_fresh(tls, stack)
        if composition.upkeep:
            _until_the_end(composition.upkeep(), stack)
        importing = _start_importing(composition.worker, stack)
        drain = Drain(composition.web)
        runner = web.AppRunner(
            composition.web,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=settings.drain_s,
            keepalive_timeout=settings.idle_s,
            lingering_time=_LINGER_S,
            auto_decompress=False,  # a Content-Encoding is refused (registry/api/http/bodies.py), never tried
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        sites = [web.SockSite(runner, listener, ssl_context=tls.context if tls else None, backlog=_BACKLOG)]
        if for_proxy:
            sites.append(web.SockSite(runner, for_proxy, backlog=_BACKLOG))
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


def _start_importing(worker: ImportWorker | None, stack: AsyncExitStack) -> asyncio.Task[None] | None:
    """Start the import role, if this process has it; it is stopped and awaited at the end."""
    if worker is None:
        return None
    task = asyncio.create_task(worker.run())

    async def finish() -> None:
        worker.stop()
        await task

    stack.push_async_callback(finish)
    return task


def _until_the_end(work: Awaitable[None], stack: AsyncExitStack) -> None:
    """Run what never ends by itself until everything does."""
    task = asyncio.ensure_future(work)

    async def stop() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(stop)


def _keep_fresh(tls: ServerTls, stack: AsyncExitStack) -> None:
    """Reload the certificate on SIGHUP and when its files change."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, tls.reload)
    _until_the_end(tls.watch(), stack)


async def _until(
    stopping: asyncio.Event, retiring: asyncio.Event | None, importing: asyncio.Task[None] | None
) -> None:
    """Wait for a signal to end; an import worker that breaks takes the process down, not half of it."""
    events = [event for event in (stopping, retiring) if event]
    waiting = [asyncio.create_task(event.wait()) for event in events]
    tasks: set[asyncio.Task[object]] = {*waiting, *([importing] if importing else [])}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
