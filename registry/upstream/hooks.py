"""HTTP client for organizations' webhook endpoints, with an egress guard."""

import asyncio
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.resolver import DefaultResolver
from multidict import CIMultiDict

from registry.errors import EgressRefusedError, WebhookFailedError
from registry.upstream.egress import EgressGuard, is_public, parse_url
from registry.upstream.routes import CertificateAuthorities, OutboundProxy, Routes
from registry.upstream.transport import USER_AGENT

_ANSWER_S: Final = 15.0
_CONNECT_S: Final = 10.0
_MAX_DIGITS: Final = 6


class HookClient:
    """Posts to untrusted URLs: only https and public addresses, plus the operator's exceptions; no redirects.

    It reads only the status and `Retry-After` of a response, so that an endpoint cannot be used to read from
    other servers.
    """

    def __init__(
        self,
        guard: EgressGuard,
        *,
        proxy: OutboundProxy | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        """Configure the client without opening connections. Must be called inside a running event loop.

        Args:
            proxy: Proxy for all connections except those to hosts that the guard lists.
            resolver: DNS resolver; the system's by default.
        """
        self._guard = guard
        self._routes = Routes(
            guard,
            _session,
            trust=CertificateAuthorities(),
            proxy=proxy,
            resolver=resolver or DefaultResolver(),
            resolve_s=_CONNECT_S,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._routes.close()

    def vet(self, url: str) -> None:
        """Check a URL against the egress rules without resolving its name. Raises EgressRefusedError."""
        target = parse_url(url)
        self._guard.vet(target)
        literal = _address(target.raw_host or "")
        if literal is not None and not is_public(literal) and not self._guard.allows_private(target):
            raise EgressRefusedError(f"{literal} is a private or reserved address")

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, float | None]:
        """Send a message. Returns the status and the Retry-After in seconds.

        Raises:
            WebhookFailedError: The guard refused the URL, or there was no answer within 15 s.
        """
        try:
            target = parse_url(url)
            self._guard.vet(target)
            async with asyncio.timeout(_ANSWER_S):
                response = await self._routes.request("POST", target, CIMultiDict(headers), body)
        except EgressRefusedError as error:
            failure = str(error)
        except TimeoutError:
            failure = "it does not answer in time"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = _describe(error)
        else:
            response.close()
            return response.status, _seconds(response.headers.get("Retry-After"))
        raise WebhookFailedError(failure)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=_ANSWER_S, connect=_CONNECT_S),
        headers={"Accept-Encoding": "identity", "User-Agent": USER_AGENT},
        auto_decompress=False,
        trust_env=False,
    )


def _describe(error: Exception) -> str:
    """Describe an error without any part of the request, whose headers are signed."""
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, EgressRefusedError):
        return "it is at a private or reserved address: ask the operator to allow it"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "it shows a TLS certificate that is not trusted"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name cannot be resolved"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "it cannot be reached"
    return "it broke off before it answered"


def _seconds(text: str | None) -> float | None:
    well_formed = text is not None and text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
    return float(text) if text is not None and well_formed else None
