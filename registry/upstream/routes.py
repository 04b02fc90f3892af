"""Routing of requests after the URL check: direct, direct with address checks, or through a proxy.

Requests to hosts that the operator listed connect directly, without address checks. All others connect
directly through sockets that the guard checks, or by CONNECT through the outbound proxy if there is one
(docs/adr/0038-egress-guard-behind-a-proxy.md). Each route, and each set of trusted certificates, has separate
connection pools.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDict
from yarl import URL

from registry.errors import EgressRefusedError
from registry.upstream.egress import EgressGuard, authority, bracketed_host
from registry.upstream.response_heads import TolerantConnector

#: A name that some resolvers read as an IPv4 address in decimal, octal or hexadecimal.
_NUMERIC_LABEL: Final = re.compile(r"(?:.*\.)?(?:\d+|0x[0-9a-f]*)\.?")


@dataclass(frozen=True, slots=True)
class OutboundProxy:
    """The operator's HTTP proxy.

    Attributes:
        url: `http://[user:password@]host[:port]`.
        resolves: The proxy receives host names, and its own rules decide which addresses are allowed.
            Otherwise names are resolved and checked here, and the proxy receives addresses.
    """

    url: URL = field(repr=False)
    resolves: bool = False


class CertificateAuthorities:
    """Trusted certificate authorities: the public roots, or for some registries a private CA instead."""

    def __init__(
        self,
        default: ssl.SSLContext | None = None,
        private: Mapping[tuple[str, int], ssl.SSLContext] | None = None,
    ) -> None:
        """Configure the TLS contexts.

        Args:
            private: Contexts by host and port.
        """
        self._default = default or ssl.create_default_context()
        self._private = dict(private or {})

    def of(self, url: URL) -> ssl.SSLContext:
        """Return the TLS context that verifies a URL's certificate."""
        return self._private.get((bracketed_host(url), url.port or 0), self._default)


class Routes:
    """One session per route. Raises aiohttp's errors and EgressRefusedError; close it at the end."""

    def __init__(
        self,
        guard: EgressGuard,
        session: Callable[[aiohttp.BaseConnector], aiohttp.ClientSession],
        *,
        trust: CertificateAuthorities,
        proxy: OutboundProxy | None,
        resolver: AbstractResolver,
        resolve_s: float,
    ) -> None:
        """Create the sessions without opening connections.

        Args:
            session: Creates a session with a connector.
            resolve_s: Timeout for resolving a name for the proxy.
        """
        self._guard = guard
        self._trust = trust
        self._proxy = proxy
        self._resolver = resolver
        self._resolve_s = resolve_s
        self._guarded = session(
            TolerantConnector(limit=0, socket_factory=guard.open_socket, resolver=resolver)
        )
        self._listed = session(TolerantConnector(limit=0, resolver=resolver))
        self._proxied = session(TolerantConnector(limit=0))

    async def close(self) -> None:
        """Close every connection."""
        for session in (self._guarded, self._listed, self._proxied):
            await session.close()
        await self._resolver.close()

    async def request(
        self, method: str, url: URL, headers: CIMultiDict[str], body: bytes | None
    ) -> aiohttp.ClientResponse:
        """Send a request whose URL was already checked. Does not follow redirects."""
        trust = self._trust.of(url)
        if self._guard.allows_private(url):
            session, server_hostname, proxy = self._listed, None, None
        elif self._proxy is None:
            session, server_hostname, proxy = self._guarded, None, None
        else:
            session, proxy = self._proxied, self._proxy.url
            server_hostname = url.raw_host
            if "Host" not in headers:
                headers["Host"] = authority(url)
            url = await self._target(url, resolve=not self._proxy.resolves)
        return await session.request(
            method,
            url,
            headers=headers,
            data=body,
            allow_redirects=False,
            ssl=trust,
            proxy=proxy,
            server_hostname=server_hostname,
        )

    async def _target(self, url: URL, *, resolve: bool) -> URL:
        """Return the target for the proxy: a checked address, or an unresolved name."""
        host = url.raw_host or ""
        if resolve or _is_address(host):
            return url.with_host(await self._vetted_address(host, url.port or 0))
        if _NUMERIC_LABEL.fullmatch(host):
            raise EgressRefusedError("the address is in an ambiguous numeric format")
        return url

    async def _vetted_address(self, host: str, port: int) -> str:
        if _is_address(host):
            found = [host]
        else:
            async with asyncio.timeout(self._resolve_s):
                found = [each["host"] for each in await self._resolver.resolve(host, port, socket.AF_UNSPEC)]
        permitted = [address for address in found if self._guard.permits(address)]
        if not permitted:
            raise EgressRefusedError("the address is not on the public internet")
        return min(permitted, key=lambda address: ":" in address)  # proxies without IPv6 are common


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
