"""HTTP requests to untrusted servers: guarded, without cookies and decoding, with checked redirects.

aiohttp's errors never leave this module, because they contain the request with its Authorization header.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import wraps
from types import MappingProxyType
from typing import Concatenate, Final, ParamSpec, Self

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.resolver import DefaultResolver
from multidict import CIMultiDict
from yarl import URL

from auth.secret import Secret
from registry import tracing
from registry.errors import EgressRefusedError, PullFailedError, UpstreamUnavailableError
from registry.upstream.connection_errors import translate
from registry.upstream.egress import EgressGuard, authority, origin_of, parse_url
from registry.upstream.response import Response, Timeouts
from registry.upstream.response_heads import MAX_FIELD_BYTES, MAX_FIELDS
from registry.upstream.routes import CertificateAuthorities, OutboundProxy, Routes

MAX_REDIRECTS: Final = 3
READ_BUFFER_BYTES: Final = 1 << 20
USER_AGENT: Final = "crisper"
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_Rest = ParamSpec("_Rest")


def _traced(
    ask: Callable[Concatenate["Transport", str, URL, _Rest], Awaitable[aiohttp.ClientResponse]],
) -> Callable[Concatenate["Transport", str, URL, _Rest], Awaitable[aiohttp.ClientResponse]]:
    """Trace a request's method, host and status, but not its path and query: they may contain a signature."""

    @wraps(ask)
    async def asked(
        transport: "Transport", method: str, url: URL, /, *rest: _Rest.args, **named: _Rest.kwargs
    ) -> aiohttp.ClientResponse:
        with tracing.span("upstream") as span:
            span.set_attribute("http.request.method", method)
            span.set_attribute("server.address", url.host or "")
            response = await ask(transport, method, url, *rest, **named)
            span.set_attribute("http.response.status_code", response.status)
            return response

    return asked


class Transport:
    """Sends requests that the egress guard allows. Safe to share; close it at the end."""

    def __init__(
        self,
        guard: EgressGuard,
        timeouts: Timeouts | None = None,
        trust: CertificateAuthorities | None = None,
        proxy: OutboundProxy | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        """Configure the transport without opening connections. Must be called inside a running event loop.

        Args:
            resolver: DNS resolver; the system's by default.
        """
        self.guard = guard
        self.timeouts = timeouts or Timeouts()
        self._routes = Routes(
            guard,
            self._session,
            trust=trust or CertificateAuthorities(),
            proxy=proxy,
            resolver=resolver or DefaultResolver(),
            resolve_s=self.timeouts.connect_s,
        )

    def _session(self, connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None, connect=self.timeouts.connect_s, sock_read=self.timeouts.read_s
            ),
            headers={"Accept-Encoding": "identity", "User-Agent": USER_AGENT},
            auto_decompress=False,
            trust_env=False,
            read_bufsize=READ_BUFFER_BYTES,
            max_line_size=MAX_FIELD_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            max_headers=MAX_FIELDS,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._routes.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @asynccontextmanager
    async def send(
        self,
        method: str,
        url: URL,
        *,
        headers: Mapping[str, str] | None = None,
        accept: Iterable[str] = (),
        authorization: Secret | None = None,
        elsewhere: Mapping[str, Secret] = MappingProxyType({}),
        body: bytes | None = None,
        redirects: int = MAX_REDIRECTS,
        within_origin: bool = False,
    ) -> AsyncIterator[Response]:
        """Send a request, follow its redirects, and yield the response regardless of its status.

        The Authorization header is sent only to the URL's origin, and is dropped after a redirect elsewhere.

        Args:
            accept: Media types, each sent in a separate header line.
            elsewhere: Authorization headers for other origins to which the request is redirected.
            body: Sent with every request of the chain; callers that send one set `redirects` to 0.
            redirects: Maximum number of redirects to follow.
            within_origin: Whether to refuse redirects to other origins.

        Raises:
            PullFailedError: The guard refuses the URL, its address or a redirect.
            UpstreamUnavailableError: The connection failed, or there was no answer in time.
        """
        origin, followed = origin_of(url), 0
        while True:
            lines = CIMultiDict(headers or {})
            for media_type in accept:
                lines.add("Accept", media_type)
            if authorization is not None:
                lines["Authorization"] = authorization.reveal()
            response = await self._open(method, url, lines, body)
            try:
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or location is None:
                    yield Response(response, url, self.timeouts, redirected=origin_of(url) != origin)
                    return
            finally:
                response.close() if response.status in _REDIRECTS else response.release()
            followed += 1
            if followed > redirects:
                raise PullFailedError(
                    f"{authority(url)} redirects too often: check that this host is the image's registry"
                )
            target = _join(url, location)
            if origin_of(target) != origin_of(url):
                if within_origin:
                    raise PullFailedError(
                        f"{authority(url)} redirects to {origin_of(target)} when asked for a token: "
                        "ask its administrator to name that realm in the challenge"
                    )
                authorization = elsewhere.get(origin_of(target))
            url = target

    @asynccontextmanager
    async def document_deadline(self, host: str) -> AsyncIterator[None]:
        """Limit the time for a whole small document of a host. Raises UpstreamUnavailableError after it."""
        try:
            async with asyncio.timeout(self.timeouts.document_s):
                yield
        except TimeoutError:
            raise UpstreamUnavailableError(
                f"{host} does not answer in time: check that the registry works, and try again later"
            ) from None

    @_traced
    async def _open(
        self, method: str, url: URL, headers: CIMultiDict[str], body: bytes | None
    ) -> aiohttp.ClientResponse:
        try:
            self.guard.vet(url)
        except EgressRefusedError as error:
            raise PullFailedError(
                f"the registry leads to {authority(url)}, which is not allowed ({error}): ask its "
                "administrator to correct that URL"
            ) from None
        try:
            return await self._routes.request(method, url, headers, body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            failure = translate(error, authority(url))
        raise failure


def _join(url: URL, location: str) -> URL:
    try:
        return parse_url(location, url)
    except EgressRefusedError as error:
        raise PullFailedError(
            f"{authority(url)} redirects to an invalid URL ({error}): ask the registry's administrator to "
            "correct it"
        ) from None
