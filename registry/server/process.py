"""One server process: binds, answers, imports, and drains before it goes."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

from registry.app import compose, tls_context
from registry.config import Settings
from registry.datadir import DataDir
from registry.server.drain import Drain

_LINGER_S = 2.0  # how long what is left of a request is read after its answer
_BACKLOG = 1024
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


async def answer(
    settings: Settings,
    data: DataDir,
    redis_url: str,
    listener: socket.socket,
    *,
    stopping: asyncio.Event,
    retiring: asyncio.Event | None = None,
    ready: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serve until `stopping`, then drain: no new connections, running requests to their end or `drain_s`.

    Args:
        retiring: Ends it too, once another process answers in its place: running requests get an hour.
        ready: Called once the port answers.
    """
    async with compose(settings, data, redis_url) as composition:
        drain = Drain(composition.web)
        runner = web.AppRunner(
            composition.web,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=settings.drain_s,
            keepalive_timeout=settings.idle_s,
            lingering_time=_LINGER_S,
        )
        await runner.setup()
        importing: asyncio.Task[None] | None = None
        try:
            site = web.SockSite(runner, listener, ssl_context=tls_context(settings), backlog=_BACKLOG)
            await site.start()
            if composition.worker:
                importing = asyncio.create_task(composition.worker.run())
            _log.info("server.ready", pid=os.getpid())
            if ready:
                await ready()
            await _until(stopping, retiring, importing)
            _log.info("server.draining")
            if composition.worker:
                composition.worker.stop()
            await site.stop()
            if runner.server:
                patient = retiring is not None and retiring.is_set()
                await drain.run(runner.server, patient=patient, hurry=stopping)
        finally:
            if composition.worker and importing:
                composition.worker.stop()
            await runner.cleanup()
            if importing:
                await importing


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
