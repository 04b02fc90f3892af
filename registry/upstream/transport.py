"""HTTP requests to untrusted servers: guarded, without cookies and decoding, with checked redirects.

aiohttp's errors never leave this module, because they contain the request with its Authorization header.
"""

import asyncio
import socket
import ssl
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
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
from registry.errors import EgressRefusedError, PlainHttpError, PullFailedError, UpstreamUnavailableError
from registry.upstream.egress import EgressGuard, authority, origin_of, parse_url
from registry.upstream.response_heads import MAX_FIELD_BYTES, MAX_FIELDS
from registry.upstream.retry import parse_retry_after
from registry.upstream.routes import CertificateAuthorities, OutboundProxy, Routes

MAX_REDIRECTS: Final = 3
READ_BUFFER_BYTES: Final = 1 << 20
USER_AGENT: Final = "crisper"
_GZIP_MAGIC: Final = b"\x1f\x8b"
_PERMANENT: Final[Mapping[type[Exception], str]] = {
    aiohttp.ClientConnectorCertificateError: (
        "shows a TLS certificate that is not trusted: check that it is valid for this name, or ask the "
        "operator to trust its CA"
    ),
    aiohttp.InvalidURL: "is not a host that can be reached: check the registry's name",
}
_TRANSIENT: Final[Mapping[type[Exception], str]] = {
    aiohttp.ClientProxyConnectionError: (
        "cannot be reached, because the outbound proxy does not answer: ask the operator to check the "
        "outbound proxy"
    ),
    aiohttp.ClientHttpProxyError: (
        "cannot be reached through the outbound proxy: ask the operator to check the outbound proxy"
    ),
    aiohttp.ClientConnectorDNSError: "has a name that cannot be resolved: check the registry's name",
    socket.gaierror: "has a name that cannot be resolved: check the registry's name",
    aiohttp.ClientConnectorSSLError: "cannot be reached with TLS: check the registry's TLS settings",
    aiohttp.ClientConnectorError: (
        "cannot be reached: check that the registry runs, and that the internet can reach it"
    ),
    TimeoutError: "does not answer in time: check that the registry works, and try again later",
}
_BROKE_OFF: Final = "broke off before it answered: check that the registry works, and try again later"
#: OpenSSL's reasons for an answer that is not TLS.
_NO_TLS: Final = frozenset(
    {
        "WRONG_VERSION_NUMBER",
        "HTTP_REQUEST",
        "RECORD_LAYER_FAILURE",
        "PACKET_LENGTH_TOO_LONG",
        "UNKNOWN_PROTOCOL",
    }
)
#: Statuses of the proxy itself that retries do not change.
_FINAL_OF_PROXY: Final = frozenset({400, 403, 405, 407})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_Rest = ParamSpec("_Rest")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts for the steps of a request, in seconds.

    Attributes:
        connect_s: For DNS, TCP and TLS.
        read_s: Between two reads of a response.
        document_s: For a whole small document, including redirects.
        floor_bytes_s: Minimum rate over `read_s` of waiting. Without it, a registry that sends very slowly
            could occupy a worker indefinitely.
    """

    connect_s: float = 15.0
    read_s: float = 60.0
    document_s: float = 60.0
    floor_bytes_s: int = 16 << 10


class Response:
    """A response whose body has not been read.

    Attributes:
        host: The host that sent it.
        origin: The origin that sent it.
        redirected: The response comes from a different origin than the request was sent to.
    """

    def __init__(
        self, response: aiohttp.ClientResponse, url: URL, timeouts: Timeouts, *, redirected: bool
    ) -> None:
        self._response = response
        self._timeouts = timeouts
        self.host = authority(url)
        self.origin = url.origin()
        self.redirected = redirected

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._response.status

    def header(self, name: str) -> str | None:
        """Return a header's first value."""
        return self._response.headers.get(name)

    def headers(self, name: str) -> Iterable[str]:
        """Return every value of a header."""
        return self._response.headers.getall(name, ())

    @property
    def retry_after_s(self) -> float | None:
        """The Retry-After in seconds from now."""
        return parse_retry_after(self.header("Retry-After"), self.header("Date"))

    @property
    def gzipped(self) -> bool:
        """Whether the body is said to be encoded with gzip, although no encoding was asked for."""
        return (self.header("Content-Encoding") or "").strip().lower() in {"gzip", "x-gzip"}

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it arrives, in pieces of at most about two read buffers.

        Raises:
            UpstreamUnavailableError: The connection was cut, timed out or is too slow.
        """
        waited_s, received = 0.0, 0
        while True:
            asked_s = time.monotonic()
            chunk = await self._next()
            if not chunk:
                return
            # Only the time spent waiting counts, so that a slow reader does not look like a slow upstream.
            waited_s, received = waited_s + time.monotonic() - asked_s, received + len(chunk)
            if waited_s > self._timeouts.read_s:
                if received < self._timeouts.floor_bytes_s * waited_s:
                    raise UpstreamUnavailableError(
                        f"{self.host} sends too slowly: check the registry's connection, or copy the image "
                        "to a faster registry",
                        outage=False,
                    )
                waited_s, received = 0.0, 0
            yield chunk

    async def _next(self) -> bytes:
        content = self._response.content
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            return await content.readany()
        # aiohttp raises before it hands out what arrived earlier: up to two read buffers of a large layer.
        if rest := content._read_nowait(-1):  # noqa: SLF001
            return rest
        raise UpstreamUnavailableError(
            f"{self.host} broke off in the middle of its answer: check that the registry works, and try "
            "again later"
        )

    async def read(self, limit: int, what: str) -> bytes:
        """Read a small body completely, and decode it if it is encoded with gzip.

        Raises:
            PullFailedError: It is longer than `limit` bytes, encoded or decoded, or not valid gzip data.
            UpstreamUnavailableError: The connection was cut or timed out.
        """
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > limit:
                raise PullFailedError(
                    f"{self.host} sent {what} of more than {limit} bytes: check that this host is the "
                    "image's registry"
                )
        if not self.gzipped or not body.startswith(_GZIP_MAGIC):
            return bytes(body)
        decoder = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            decoded = await asyncio.to_thread(decoder.decompress, bytes(body), limit + 1)
        except zlib.error:
            decoded = b""
        if len(decoded) > limit:
            raise PullFailedError(
                f"{self.host} sent {what} of more than {limit} bytes: check that this host is the image's "
                "registry"
            )
        if not decoder.eof:
            raise PullFailedError(
                f"{self.host} sent {what} in a damaged gzip encoding: ask the registry's administrator to "
                "turn off this encoding"
            )
        return decoded


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
            failure = _translate(error, authority(url))
        raise failure


def _join(url: URL, location: str) -> URL:
    try:
        return parse_url(location, url)
    except EgressRefusedError as error:
        raise PullFailedError(
            f"{authority(url)} redirects to an invalid URL ({error}): ask the registry's administrator to "
            "correct it"
        ) from None


def _translate(error: Exception, host: str) -> PullFailedError:
    """Translate an error of aiohttp into one that contains nothing of the request."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, EgressRefusedError):
        return PullFailedError(
            f"{host} is at a private or reserved address: use a registry with a public address, or ask the "
            "operator to allow this one"
        )
    if isinstance(error, aiohttp.ClientHttpProxyError) and error.status in _FINAL_OF_PROXY:
        return PullFailedError(
            f"{host} cannot be reached, because the outbound proxy refuses it: ask the operator to allow it "
            "there"
        )
    if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
        return PlainHttpError(
            f"{host} answers without TLS: use a registry with TLS, or ask the operator to allow plain HTTP "
            "for this one"
        )
    for kind, what in _PERMANENT.items():
        if isinstance(error, kind):
            return PullFailedError(f"{host} {what}")
    transient = next((what for kind, what in _TRANSIENT.items() if isinstance(error, kind)), None)
    # A name that does not exist, or TLS that is set up wrongly, is more often a mistake than an outage.
    mistake = isinstance(error, aiohttp.ClientConnectorDNSError | socket.gaierror | ssl.SSLError) or (
        isinstance(error, aiohttp.ClientConnectorSSLError) and not isinstance(cause, ssl.SSLEOFError)
    )
    return UpstreamUnavailableError(f"{host} {transient or _BROKE_OFF}", outage=not mistake)
