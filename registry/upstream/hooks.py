"""Sends messages to the endpoints that organizations have registered, past the egress guard."""

import ssl
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import aiohttp
from yarl import URL

from registry.errors import EgressRefusedError, WebhookFailedError
from registry.upstream.egress import EgressGuard, is_public, parse_url
from registry.upstream.transport import USER_AGENT

_TIMEOUT: Final = aiohttp.ClientTimeout(total=15, connect=10)
_MAX_CONNECTIONS: Final = 64
_MAX_DIGITS: Final = 6


class HookClient:
    """Posts to strangers: https and public addresses only, besides what the operator allows; no redirects.

    Nothing of an answer but its status and `Retry-After` is read, so that an endpoint cannot be used to look
    into other places.
    """

    def __init__(self, guard: EgressGuard, ssl_context: ssl.SSLContext | None = None) -> None:
        self._guard = guard
        tls = ssl_context or ssl.create_default_context()
        self._public = _session(
            aiohttp.TCPConnector(limit=_MAX_CONNECTIONS, ssl=tls, socket_factory=guard.open_socket)
        )
        self._private = _session(aiohttp.TCPConnector(limit=_MAX_CONNECTIONS, ssl=tls))

    async def close(self) -> None:
        """Close every connection."""
        await self._public.close()
        await self._private.close()

    def vet(self, url: str) -> None:
        """Refuse a URL that nothing may be sent to, as far as that shows. Raises EgressRefusedError."""
        target = parse_url(url)
        self._guard.vet(target)
        literal = _address(target.raw_host or "")
        if literal is not None and not is_public(literal) and not self._guard.allows_private(target):
            raise EgressRefusedError(f"{literal} is a private or reserved address")

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, float | None]:
        """Send a message; return the status and how many seconds the endpoint asked to be left alone.

        Raises:
            WebhookFailedError: The guard refuses, or there is no answer in 15 s.
        """
        try:
            target = parse_url(url)
            self._guard.vet(target)
        except EgressRefusedError as error:
            raise WebhookFailedError(str(error)) from None
        session = self._private if self._guard.allows_private(target) else self._public
        return await self._send(session, target, headers, body)

    @staticmethod
    async def _send(
        session: aiohttp.ClientSession, url: URL, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, float | None]:
        try:
            async with session.post(url, headers=headers, data=body, allow_redirects=False) as response:
                return response.status, _seconds(response.headers.get("Retry-After"))
        except TimeoutError:
            failure = "it does not answer in time"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = _said(error)
        raise WebhookFailedError(failure)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=_TIMEOUT,
        headers={"User-Agent": USER_AGENT},
        trust_env=False,
    )


def _said(error: Exception) -> str:
    """Say what went wrong without anything of the request, whose headers are signed."""
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, EgressRefusedError):
        return "it is at a private or reserved address: only an operator can allow that"
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
