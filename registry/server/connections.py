"""Bound on the open connections of a process, in all and for each network address.

If there are too many, the one that matters least is closed: first those that have not authenticated and have
no request, then unauthenticated requests, then idle authenticated ones; of these the one that has been so for
the longest. A response of an authenticated client is never closed; new connections are refused instead.
"""

import ipaddress
import resource
import socket
from contextlib import suppress
from enum import IntEnum
from typing import Final

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

_DESCRIPTORS: Final = 65_536
_OTHER_DESCRIPTORS: Final = 384  # files, the ledger, the catalog, object stores, administration
_DESCRIPTORS_EACH: Final = 3  # the connection, its duplicate and the blob while a response is running
_IPV6_NETWORK = 64  # addresses of one customer
_log = structlog.get_logger(__name__)


class Worth(IntEnum):
    """How much a connection matters; the smallest is closed first."""

    UNPROVEN_IDLE = 0
    UNPROVEN_BUSY = 1
    PROVEN_IDLE = 2
    PROVEN_BUSY = 3


class Connection:
    """One open connection.

    Attributes:
        source: Its network address, or network; None on a Unix socket.
    """

    __slots__ = ("_socket", "proven", "source", "worth")

    def __init__(self, connection: socket.socket, source: str | None) -> None:
        self._socket = connection
        self.source = source
        self.proven = False
        self.worth = Worth.UNPROVEN_IDLE

    def close(self) -> None:
        """End the connection. Its transport, or its TLS handshake, then closes the socket."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


class Connections:
    """The open connections of a process.

    Args:
        most: Maximum number.
        most_of_address: Maximum number of one address; 0 means no limit.
    """

    def __init__(self, most: int, most_of_address: int) -> None:
        self._most = most
        self._most_of_address = min(most_of_address, max(1, most // 2))
        self._by_worth: dict[Worth, dict[Connection, None]] = {worth: {} for worth in Worth}
        self._by_source: dict[str, dict[Connection, None]] = {}
        self._by_protocol: dict[object, Connection] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_worth.values()))

    def admit(self, connection: socket.socket) -> Connection | None:
        """Add a connection that was accepted. Returns None if it must be closed."""
        new = Connection(connection, _source(connection))
        mates = self._by_source.get(new.source, {}) if new.source is not None else {}
        victim = None
        if self._most_of_address and len(mates) >= self._most_of_address:
            victim = min(mates, key=lambda mate: mate.worth)
        elif len(self) >= self._most:
            victim = next(one for some in self._by_worth.values() for one in some)
        if victim is not None:
            if victim.worth is Worth.PROVEN_BUSY:
                return None
            _log.debug("connection.shed", worth=victim.worth.name.lower(), source=victim.source)
            victim.close()
            self.remove(victim)
        self._by_worth[new.worth][new] = None
        if new.source is not None:
            self._by_source.setdefault(new.source, {})[new] = None
        return new

    def assign(self, connection: Connection, protocol: object) -> None:
        """Note the HTTP protocol of a connection."""
        self._by_protocol[protocol] = connection

    def remove(self, connection: Connection) -> None:
        """Remove a connection. Can be called repeatedly."""
        if self._by_worth[connection.worth].pop(connection, self) is self:
            return
        if connection.source is not None:
            mates = self._by_source[connection.source]
            del mates[connection]
            if not mates:
                del self._by_source[connection.source]

    def lost(self, protocol: object) -> None:
        """Remove the connection of a protocol that has ended."""
        if (connection := self._by_protocol.pop(protocol, None)) is not None:
            self.remove(connection)

    def watch(self, app: web.Application) -> None:
        """Follow the requests of the root application, before its set-up."""
        app.middlewares.insert(0, self._following())
        app.on_response_prepare.append(self._prove)

    def _following(self) -> Middleware:
        @web.middleware
        async def follow(request: web.Request, handler: Handler) -> web.StreamResponse:
            connection = self._by_protocol.get(request.protocol)
            if connection is None:
                return await handler(request)
            self._set(connection, Worth.PROVEN_BUSY if connection.proven else Worth.UNPROVEN_BUSY)
            try:
                return await handler(request)
            finally:
                self._set(connection, Worth.PROVEN_IDLE if connection.proven else Worth.UNPROVEN_IDLE)

        return follow

    async def _prove(self, request: web.Request, response: web.StreamResponse) -> None:
        """Note that a client has authenticated: the server accepted its credentials."""
        connection = self._by_protocol.get(request.protocol)
        shown = hdrs.AUTHORIZATION in request.headers or hdrs.COOKIE in request.headers
        if connection is not None and shown and response.status < 400:  # noqa: PLR2004 (refusals)
            connection.proven = True
            self._set(connection, Worth.PROVEN_BUSY)

    def _set(self, connection: Connection, worth: Worth) -> None:
        if self._by_worth[connection.worth].pop(connection, self) is not self:
            connection.worth = worth
            self._by_worth[worth][connection] = None


def raise_descriptor_limit() -> None:
    """Raise the limit of open descriptors of this process and those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def affordable(wanted: int) -> int:
    """Return how many connections the descriptors of this process allow, at most `wanted`."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, (soft - _OTHER_DESCRIPTORS) // _DESCRIPTORS_EACH))


def _source(connection: socket.socket) -> str | None:
    """Return the address of a client, or its network if it is an IPv6 address."""
    if connection.family not in {socket.AF_INET, socket.AF_INET6}:
        return None
    try:
        address = ipaddress.ip_address(connection.getpeername()[0].partition("%")[0])
    except OSError:
        return "gone"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, _IPV6_NETWORK), strict=False))
    return str(address)
