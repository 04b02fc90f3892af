"""HTTP client for the identity provider: small JSON documents, bounded in size and time, no redirects."""

import asyncio
import base64
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.resolver import DefaultResolver
from multidict import CIMultiDict

from registry.errors import EgressRefusedError, IdentityProviderError
from registry.upstream.egress import EgressGuard, authority, parse_url
from registry.upstream.routes import CertificateAuthorities, OutboundProxy, Routes
from registry.upstream.transport import USER_AGENT

MAX_DOCUMENT_BYTES: Final = 512 << 10

_TOTAL_S: Final = 10.0
_CONNECT_S: Final = 5.0


class IdentityClient:
    """Reads JSON documents under the egress rules.

    Args:
        proxy: Proxy for all connections except those to hosts that the guard lists.
        resolver: DNS resolver; the system's by default.
    """

    def __init__(
        self,
        guard: EgressGuard,
        *,
        trust: CertificateAuthorities,
        proxy: OutboundProxy | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        """Configure the client without opening connections. Must be called inside a running event loop."""
        self._guard = guard
        self._routes = Routes(
            guard,
            _session,
            trust=trust,
            proxy=proxy,
            resolver=resolver or DefaultResolver(),
            resolve_s=_CONNECT_S,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._routes.close()

    async def get(self, url: str, *, bearer: str | None = None) -> Mapping[str, Any]:
        """Read a document. Raises IdentityProviderError."""
        headers = {"Authorization": f"Bearer {bearer}"} if bearer is not None else {}
        return await self._read("GET", url, headers, None)

    async def post(
        self, url: str, form: Mapping[str, str], *, basic: tuple[str, str] | None = None
    ) -> Mapping[str, Any]:
        """Send a form and read the document of the answer. Raises IdentityProviderError."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if basic is not None:
            headers["Authorization"] = f"Basic {base64.b64encode(':'.join(basic).encode()).decode()}"
        return await self._read("POST", url, headers, urlencode(form).encode())

    async def _read(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Mapping[str, Any]:
        try:
            target = parse_url(url)
            self._guard.vet(target)
            async with asyncio.timeout(_TOTAL_S):
                sent = CIMultiDict({**headers, "Accept": "application/json"})
                async with await self._routes.request(method, target, sent, body) as response:
                    text = await _bounded(response)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise IdentityProviderError(_describe(url, error)) from None
        document = _parse(text)
        if response.status != HTTPStatus.OK:
            raise IdentityProviderError(f"{authority(target)} answered {response.status}{_reason(document)}")
        if document is None:
            raise IdentityProviderError(f"{authority(target)} sent no JSON document")
        return document


def _session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=_TOTAL_S, connect=_CONNECT_S),
        headers={"Accept-Encoding": "identity", "User-Agent": USER_AGENT},
        auto_decompress=False,
        trust_env=False,
    )


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_DOCUMENT_BYTES:
            raise IdentityProviderError(f"it sent a document of more than {MAX_DOCUMENT_BYTES >> 10} KiB")
    return bytes(body)


def _describe(url: str, error: Exception) -> str:
    """Describe an error without any part of the request, which has a secret."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, EgressRefusedError):
        return f"the egress rules refuse an endpoint ({cause}): see CRISPER_EGRESS_ALLOW"
    return f"{urlsplit(url).hostname} does not answer ({type(error).__name__})"


def _parse(text: bytes) -> Mapping[str, Any] | None:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _reason(document: Mapping[str, Any] | None) -> str:
    """Return the error code of a refusal (RFC 6749, section 5.2)."""
    code = (document or {}).get("error")
    is_code = isinstance(code, str) and len(code) <= 64 and code.replace("_", "").isalnum() and code.isascii()  # noqa: PLR2004
    return f" ({code})" if is_code else ""
