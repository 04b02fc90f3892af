"""One server process: binds, answers, imports, and drains before it goes."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
from aiohttp import web

from registry.app import compose, tls_context
from registry.config import Settings
from registry.datadir import DataDir

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
    try:
        listener.bind((settings.host, settings.port))
    except OSError:
        listener.close()
        raise
    return listener


async def answer(
    settings: Settings,
    data: DataDir,
    redis_url: str,
    listener: socket.socket,
    *,
    stopping: asyncio.Event,
    ready: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serve until `stopping`, then drain: no new requests, running ones to their end or `drain_s`.

    Args:
        ready: Called once the port answers.
    """
    async with compose(settings, data, redis_url) as composition:
        runner = web.AppRunner(
            composition.web, access_log=None, handle_signals=False, shutdown_timeout=settings.drain_s
        )
        await runner.setup()
        importing: asyncio.Task[None] | None = None
        upkeep = asyncio.ensure_future(composition.upkeep()) if composition.upkeep else None
        try:
            site = web.SockSite(runner, listener, ssl_context=tls_context(settings), backlog=_BACKLOG)
            await site.start()
            if composition.worker:
                importing = asyncio.create_task(composition.worker.run())
            _log.info("server.ready", pid=os.getpid())
            if ready:
                await ready()
            await _until(stopping, importing)
            _log.info("server.draining")
        finally:
            if upkeep:
                upkeep.cancel()
                await asyncio.gather(upkeep, return_exceptions=True)
            if composition.worker and importing:
                composition.worker.stop()
            await runner.cleanup()
            if importing:
                await importing


async def _until(stopping: asyncio.Event, importing: asyncio.Task[None] | None) -> None:
    """Wait for the signal to stop; an import worker that breaks takes the process down, not half of it."""
    waiting = asyncio.create_task(stopping.wait())
    tasks: set[asyncio.Task[object]] = {waiting}
    if importing:
        tasks.add(importing)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
