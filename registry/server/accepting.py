"""Accepting of connections: the bound on their number applies before TLS and HTTP."""

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from registry.server.connections import Connection, Connections

_BACKLOG: Final = 1024
_TOGETHER: Final = 64  # connections between two looks at other work
_HANDSHAKE_S: Final = 15.0
_EXHAUSTED_S: Final = 0.1


class LimitedSite(web.BaseSite):
    """A listening socket whose connections are bounded.

    Args:
        listener: Bound socket. Closed when the site stops.
        connections: Connections of the process.
        context: TLS context; None for plain HTTP.
    """

    def __init__(
        self,
        runner: web.AppRunner,
        listener: socket.socket,
        connections: Connections,
        context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(runner, ssl_context=context, backlog=_BACKLOG)
        if runner.server is None:
            raise RuntimeError("call runner.setup() before making a site")
        self._http = runner.server
        self._listener = listener
        self._connections = connections
        self._context = context
        self._starting: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        """Address of the listening socket."""
        return str(self._listener.getsockname())

    async def start(self) -> None:
        """Listen and accept."""
        await super().start()
        self._listener.setblocking(False)
        self._listener.listen(_BACKLOG)
        self._resume()

    async def stop(self) -> None:
        """Accept no further connections. Those that are open remain."""
        asyncio.get_running_loop().remove_reader(self._listener.fileno())
        self._listener.close()
        await super().stop()

    def _resume(self) -> None:
        if self._listener.fileno() >= 0:
            asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_TOGETHER):
            try:
                accepted, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no descriptors or memory: try again when some are free
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._listener.fileno())
                loop.call_later(_EXHAUSTED_S, self._resume)
                return
            connection = self._connections.admit(accepted)
            if connection is None:
                accepted.close()
                continue
            task = asyncio.create_task(self._start(accepted, connection))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _start(self, accepted: socket.socket, connection: Connection) -> None:
        """Give a connection to HTTP, after the TLS handshake."""
        accepted.setblocking(False)
        if connection.source is not None:
            with suppress(OSError):
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        protocol: RequestHandler = self._http()
        self._connections.assign(connection, protocol)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=_HANDSHAKE_S if self._context else None,
            )
        except (OSError, ssl.SSLError):
            self._connections.lost(protocol)
        except BaseException:
            self._connections.lost(protocol)
            raise


def follow_ends(runner: web.AppRunner, connections: Connections) -> None:
    """Have a runner's server report the connections that have ended. It has no hook for this."""
    server = runner.server
    if server is None:
        raise RuntimeError("call runner.setup() before")
    report = server.connection_lost

    def lost(handler: RequestHandler, exc: BaseException | None = None) -> None:
        connections.lost(handler)
        report(handler, exc)

    server.connection_lost = lost  # type: ignore[method-assign]
