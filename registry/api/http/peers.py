"""Identification of a request's peer: its network address and client certificate.

The certificate comes from the TLS layer or, behind one of the operator's proxies, from the header of
RFC 9440. A proxy authenticates by a unix socket that only it may open, or by a client certificate of the
proxies' own CA. The header from any other peer is an attack and gets a 400.
"""

import binascii
import socket
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from auth.nodes.trust import ClientTrust
from auth.peer import ShownCertificate
from registry.api.http.problems import renderer_of

CLIENT_CERT: Final = "Client-Cert"
_CHAIN = "Client-Cert-Chain"


@dataclass(frozen=True, slots=True)
class Peer:
    """The client of a request, also behind a proxy.

    Attributes:
        source: Its network address; "unknown" if a proxy does not forward it.
        certificate: Its verified certificate; None if it has none.
        proxied: Whether one of the operator's proxies is in between.
    """

    source: str
    certificate: ShownCertificate | None = None
    proxied: bool = False


_PEER = web.RequestKey("peer", Peer)


def peer_of(request: web.Request) -> Peer:
    """Return the peer of a request; without a certificate if the middleware `identified` did not run."""
    return request.get(_PEER) or Peer(request.remote or "unknown")


class Peers:
    """Identifies the peers of requests.

    Args:
        nodes: Verifies the certificates of nodes.
        proxies: Verifies the certificates of proxies that connect over TLS; None if there are none.
        now: Returns the current time.
    """

    def __init__(self, nodes: ClientTrust, proxies: ClientTrust | None, now: Callable[[], datetime]) -> None:
        self._nodes = nodes
        self._proxies = proxies
        self._now = now

    def identify(self, request: web.Request) -> Peer:
        """Return the peer that sent the request.

        Raises:
            web.HTTPBadRequest: It has a header that only the operator's proxies may send, or that header
                is malformed.
        """
        shown = _tls_certificate(request)
        if self._is_proxy(request, shown):
            forwarded = _client_cert(request)
            return Peer(_forwarded_for(request), self._judge(forwarded), proxied=True)
        if CLIENT_CERT in request.headers or _CHAIN in request.headers:
            raise web.HTTPBadRequest(text="Remove Client-Cert: only configured proxies may send it.")
        return Peer(request.remote or "unknown", self._judge(shown))

    def _is_proxy(self, request: web.Request, shown: bytes | None) -> bool:
        if _over_unix_socket(request):
            return True
        return shown is not None and self._proxies is not None and self._proxies.speaks(shown, self._now())

    def _judge(self, der: bytes | None) -> ShownCertificate | None:
        return None if der is None else self._nodes.node(der, self._now())


def identified(peers: Peers) -> Middleware:
    """Return the middleware that identifies the peer for `peer_of`."""

    @web.middleware
    async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            request[_PEER] = peers.identify(request)
        except web.HTTPBadRequest as error:
            return renderer_of(request)(error, {})
        return await handler(request)

    return identify


def _tls_certificate(request: web.Request) -> bytes | None:
    tls = request.get_extra_info("ssl_object")
    return tls.getpeercert(binary_form=True) if tls is not None else None


def _over_unix_socket(request: web.Request) -> bool:
    connection = request.get_extra_info("socket")
    return connection is not None and connection.family == socket.AF_UNIX


def _client_cert(request: web.Request) -> bytes | None:
    """Parse a byte sequence (RFC 9440, section 2.1; RFC 8941, section 3.3.5)."""
    values = request.headers.getall(CLIENT_CERT, ())
    if not values:
        return None
    value = values[0].strip(" ")
    if len(values) > 1 or len(value) < 2 or value[0] != ":" or value[-1] != ":":  # noqa: PLR2004 (the colons)
        raise web.HTTPBadRequest(text="Send one Client-Cert header in the form of RFC 9440.")
    try:
        return b64decode(value[1:-1], validate=True)
    except binascii.Error:
        raise web.HTTPBadRequest(text="The header Client-Cert is not base64 between colons.") from None


def _forwarded_for(request: web.Request) -> str:
    """Return the last address, which the proxy itself saw; earlier ones are unverified."""
    listed = ",".join(request.headers.getall(hdrs.X_FORWARDED_FOR, ()))
    return listed.rpartition(",")[2].strip()[:64] or "unknown"
