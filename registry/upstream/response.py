"""Responses of untrusted servers: bounded in size, time and rate, and decoded only where that is expected."""

import asyncio
import time
import zlib
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import aiohttp
from yarl import URL

from registry.errors import PullFailedError, UpstreamUnavailableError
from registry.upstream.egress import authority
from registry.upstream.retry import parse_retry_after

_GZIP_MAGIC: Final = b"\x1f\x8b"


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
    def next_page(self) -> URL | None:
        """The URL of the next page of a list (RFC 8288, relation `next`), made absolute; None on the last."""
        try:
            link = self._response.links.get("next")
        except ValueError:
            return None
        return URL(str(link["url"])) if link is not None else None

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

    async def read(self, limit: int, what: str, *, configured: bool = False) -> bytes:
        """Read a small body completely, and decode it if it is encoded with gzip.

        Args:
            limit: Maximum number of bytes.
            what: What the body is, for errors.
            configured: Whether the operator sets the limit.

        Raises:
            PullFailedError: It is longer than `limit` bytes, encoded or decoded, or not valid gzip data.
            UpstreamUnavailableError: The connection was cut or timed out.
        """
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > limit:
                raise self._too_long(limit, what, configured=configured)
        if not self.gzipped or not body.startswith(_GZIP_MAGIC):
            return bytes(body)
        decoder = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            decoded = await asyncio.to_thread(decoder.decompress, bytes(body), limit + 1)
        except zlib.error:
            decoded = b""
        if len(decoded) > limit:
            raise self._too_long(limit, what, configured=configured)
        if not decoder.eof:
            raise PullFailedError(
                f"{self.host} sent {what} in a damaged gzip encoding: ask the registry's administrator to "
                "turn off this encoding"
            )
        return decoded

    def _too_long(self, limit: int, what: str, *, configured: bool) -> PullFailedError:
        size = _readable(limit)
        if configured:
            return PullFailedError(
                f"{self.host} sent {what} of more than {size}, the limit of this server: build the image "
                "with fewer layers and annotations, or ask the operator for a higher limit"
            )
        return PullFailedError(
            f"{self.host} sent {what} of more than {size}: check that this host is the image's registry"
        )


def _readable(size_bytes: int) -> str:
    for unit, shift in (("MiB", 20), ("KiB", 10)):
        if size_bytes and not size_bytes % (1 << shift):
            return f"{size_bytes >> shift:,} {unit}"
    return f"{size_bytes:,} bytes"
