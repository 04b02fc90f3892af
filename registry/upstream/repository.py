"""One repository of an upstream registry: documents whole, blobs as streams (OCI distribution-spec)."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeVar

from yarl import URL

from registry.errors import DocumentError, ImportFailedError, PullFailedError, UpstreamUnavailableError
from registry.oci import mediatypes
from registry.oci.documents import MAX_DOCUMENT_BYTES, Descriptor, Index, Manifest, parse_document
from registry.oci.reference import Reference
from registry.upstream.authorization import Authorization
from registry.upstream.retry import Backoff, is_passing, parse_retry_after
from registry.upstream.transport import Response, Transport
from storage.digest import Digest
from storage.errors import DigestError

T = TypeVar("T")

_OFF_LOOP_BYTES: Final = 64 << 10
_MAX_SIZE_DIGITS: Final = 20
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or an index: its bytes exactly as they came, verified, and what they say."""

    data: bytes
    digest: Digest
    parsed: Manifest | Index

    @property
    def descriptor(self) -> Descriptor:
        """Describe the document."""
        return Descriptor(self.parsed.media_type, self.digest, len(self.data))


@dataclass(frozen=True, slots=True)
class Piece:
    """The answer to a range of a blob.

    Attributes:
        stop: Where it ends: where it was asked to; at the blob's end when an upstream that knows no ranges
            sends all of it; at its start when the answer is of no use.
        chunks: Its bytes.
    """

    stop: int
    chunks: AsyncIterator[bytes]


class UpstreamRepository:
    """One repository of an upstream registry, as one credential sees it."""

    def __init__(
        self,
        transport: Transport,
        origin: URL,
        reference: Reference,
        authorization: Authorization,
        backoff: Backoff,
    ) -> None:
        self.reference = reference
        self.backoff = backoff
        self._transport = transport
        self._base = origin / "v2" / reference.repository
        self._authorization = authorization

    @property
    def encrypted(self) -> bool:
        """Whether the registry is spoken to over TLS, and so is who its certificate says."""
        return self._base.scheme == "https"

    async def document(self, identifier: str, expected: Descriptor | None = None) -> Document:
        """Fetch a manifest or an index, verified against its digest.

        Args:
            identifier: A tag or a digest.
            expected: What an index says of it, when it comes from one.

        Raises:
            AuthenticationFailedError: The credentials are refused.
            PullFailedError: Not there, not intact, not supported, or no answer after retries.
        """
        return await self._retry(lambda: self._document(identifier, expected))

    async def resolve(self, identifier: str) -> Descriptor:
        """Ask what a tag or digest is, with a HEAD that costs no body and, at Docker Hub, no quota.

        Raises:
            AuthenticationFailedError: The credentials are refused.
            PullFailedError: Not there, or the answer does not describe it.
        """
        return await self._retry(lambda: self._resolve(identifier))

    async def attempt(self, identifier: str, kind: str = "manifests") -> tuple[bytes, str | None]:
        """Fetch a document that may well not be there, once; return its bytes and its Content-Type.

        A tag is asked for with a HEAD first: at Docker Hub a GET counts as a pull, though nothing be there.

        Args:
            identifier: A digest, against which a manifest is verified, or a tag.
            kind: `manifests` or `referrers`.

        Raises:
            AuthenticationFailedError: The credentials are refused.
            PullFailedError: Not there, not intact, or no answer.
        """
        named = _parse_digest(identifier) if kind == "manifests" else None
        if kind == "manifests" and named is None:
            async with self._small("HEAD", identifier, kind):
                pass
        async with self._small("GET", identifier, kind) as response:
            data = await response.read(MAX_DOCUMENT_BYTES, "a manifest")
            content_type = response.header("Content-Type")
        if named is not None and not await off_loop(data, named.matches):
            raise PullFailedError(f"the manifest {named} is not what its digest says")
        return data, content_type

    async def small_blob(self, blob: Descriptor) -> bytes:
        """Fetch a config whole, verified; `blob.size_bytes` was checked against the document limit.

        Raises:
            AuthenticationFailedError: The credentials are refused.
            PullFailedError: Not there, not intact, or no answer after retries.
        """
        return await self._retry(lambda: self._small_blob(blob))

    async def admits(self, blob: Descriptor) -> bool:
        """Tell whether the registry gives this credential that blob now, in that size; any trouble is a no.

        A HEAD where it answers; else one byte is fetched, since a signed address that a HEAD is redirected
        to is often good for a GET only.
        """
        url = self._base / "blobs" / str(blob.digest)
        for method, headers in (("HEAD", {}), ("GET", {"Range": "bytes=0-0"})):
            try:
                async with (
                    self._bounded(),
                    self._request(method, url, f"blob {blob.digest}", headers=headers) as response,
                ):
                    return _stated_size(response) == blob.size_bytes
            except ImportFailedError:
                continue
        return False

    @asynccontextmanager
    async def blob(self, blob: Descriptor, offset: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a blob's bytes from `offset` to its end, once; `stream` does so until all are there.

        The stream never yields more than the descriptor says. It raises UpstreamUnavailableError when it
        ends early, and PullFailedError when the upstream has more.

        Raises:
            AuthenticationFailedError: The credentials are refused.
            PullFailedError: Not there, or of another size.
            UpstreamUnavailableError: Passing trouble: wait and try again.
        """
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        url = self._base / "blobs" / str(blob.digest)
        async with self._request("GET", url, f"blob {blob.digest}", headers=headers) as response:
            skip = _check_extent(response, blob, offset)
            async with aclosing(_exactly(response, blob, offset, blob.size_bytes, skip)) as chunks:
                yield chunks

    @asynccontextmanager
    async def piece(self, blob: Descriptor, start: int, stop: int) -> AsyncIterator["Piece"]:
        """Ask once for a range of a blob.

        Args:
            start: First byte.
            stop: After the last byte.

        Raises:
            AuthenticationFailedError: The credentials are refused.
            PullFailedError: Not there, or the upstream does not know what a range is.
            UpstreamUnavailableError: Passing trouble, or the stream ends early.
        """
        url = self._base / "blobs" / str(blob.digest)
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        async with self._request("GET", url, f"blob {blob.digest}", headers=headers) as response:
            end = _piece_end(response, blob, start, stop)
            async with aclosing(_exactly(response, blob, start, end, 0)) as chunks:
                yield Piece(end, chunks)

    async def stream(self, blob: Descriptor, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield a blob's bytes from `offset`, as many as its descriptor says, going on after every cut.

        The digest is the caller's to verify. Close the iterator when leaving it early.

        Raises:
            AuthenticationFailedError: The credentials are refused.
            PullFailedError: Not there, of another size, or no answer after retries.
        """
        received, failed = offset, 0
        while received < blob.size_bytes:
            before = received
            try:
                async with self.blob(blob, received) as chunks:
                    async for chunk in chunks:
                        received += len(chunk)
                        yield chunk
            except UpstreamUnavailableError as error:
                failed = 1 if received - before >= self.backoff.progress_bytes else failed + 1
                await self.backoff.wait(failed, error)

    async def _retry(self, attempt: Callable[[], Awaitable[T]]) -> T:
        failed = 0
        while True:
            try:
                return await attempt()
            except UpstreamUnavailableError as error:
                failed += 1
                await self.backoff.wait(failed, error)

    async def _document(self, identifier: str, expected: Descriptor | None) -> Document:
        async with self._small("GET", identifier) as response:
            data = await response.read(MAX_DOCUMENT_BYTES, "a manifest")
            content_type, declared = response.header("Content-Type"), response.header("Docker-Content-Digest")
        named = _parse_digest(identifier) or _parse_digest(declared)
        if expected is not None and expected.size_bytes != len(data):
            raise PullFailedError(f"the manifest of {self.reference} is not of the size that its index says")
        if named is not None and not await off_loop(data, named.matches):
            raise PullFailedError(f"the manifest of {self.reference} is not what its digest says")
        try:
            parsed = await off_loop(data, parse_document, content_type)
        except DocumentError as error:
            raise PullFailedError(f"{self.reference} cannot be imported: {error}") from None
        digest = _parse_digest(identifier)
        return Document(data, digest if digest is not None else await off_loop(data, Digest.of), parsed)

    async def _resolve(self, identifier: str) -> Descriptor:
        async with self._small("HEAD", identifier) as response:
            digest = _parse_digest(response.header("Docker-Content-Digest"))
            size, media_type = response.header("Content-Length"), response.header("Content-Type")
        if digest is None or size is None or not size.isdigit() or media_type is None:
            raise PullFailedError(f"{response.host} does not say what {self.reference} is")
        return Descriptor(mediatypes.bare(media_type), digest, int(size))

    @asynccontextmanager
    async def _small(self, method: str, identifier: str, kind: str = "manifests") -> AsyncIterator[Response]:
        url = self._base / kind / identifier
        async with (
            self._bounded(),
            self._request(method, url, f"image {self.reference}", accept=mediatypes.ACCEPTED) as response,
        ):
            if response.status != HTTPStatus.OK:
                raise PullFailedError(f"{response.host} answers {response.status} for {self.reference}")
            yield response

    async def _small_blob(self, blob: Descriptor) -> bytes:
        async with self._bounded(), self.blob(blob) as chunks:
            data = b"".join([chunk async for chunk in chunks])
        if not await off_loop(data, blob.digest.matches):
            raise PullFailedError(f"the blob {blob.digest} is not what its digest says")
        return data

    @asynccontextmanager
    async def _bounded(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._transport.timeouts.document_s):
                yield
        except TimeoutError:
            raise UpstreamUnavailableError(f"{self.reference.host} does not answer in time") from None

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        url: URL,
        what: str,
        *,
        headers: Mapping[str, str] | None = None,
        accept: Iterable[str] = (),
    ) -> AsyncIterator[Response]:
        """Send with what the registry wants to see; answer a 401, and a 403, once each and send again."""
        answered: set[int] = set()
        while True:
            shown = await self._authorization.header()
            async with self._transport.send(
                method, url, headers=headers, accept=accept, authorization=shown
            ) as response:
                if not response.redirected and response.status not in answered:
                    answered.add(response.status)
                    if response.status == HTTPStatus.UNAUTHORIZED:
                        await self._authorization.refused(response, shown)
                        continue
                    if response.status == HTTPStatus.FORBIDDEN and await self._authorization.renewed(shown):
                        continue
                self._check_status(response, what)
                yield response
                return

    def _check_status(self, response: Response, what: str) -> None:
        status = response.status
        if status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            return
        retry_after_s = parse_retry_after(response.header("Retry-After"))
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            raise self._authorization.exhaustion(response.host, retry_after_s)
        if is_passing(status) or response.redirected:
            raise UpstreamUnavailableError(f"{response.host} answers {status} for {what}", retry_after_s)
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise self._authorization.refusal()
        if status == HTTPStatus.NOT_FOUND:
            raise PullFailedError(
                f"{response.host} has no {what}: check its spelling, and that it was pushed whole"
            )
        raise PullFailedError(f"{response.host} answers {status} for {what}")


def _check_extent(response: Response, blob: Descriptor, offset: int) -> int:
    """Check what the answer says of itself; return how many leading bytes to drop (Range was ignored)."""
    length = response.header("Content-Length")
    start = 0
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        match = _CONTENT_RANGE.fullmatch(response.header("Content-Range") or "")
        sizes = {str(blob.size_bytes), "*"}
        if match is None or int(match[1]) != offset or match[3] not in sizes:
            raise PullFailedError(f"{response.host} answers with another range of the blob {blob.digest}")
        start = offset
    elif length is not None and length != str(blob.size_bytes):
        raise PullFailedError(f"{response.host} has the blob {blob.digest} in another size than its manifest")
    return offset - start


def _piece_end(response: Response, blob: Descriptor, start: int, stop: int) -> int:
    """Return where the answer to a range ends: `start`, when it is not that range and cannot be used."""
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        match = _CONTENT_RANGE.fullmatch(response.header("Content-Range") or "")
        if match is None or (int(match[1]), int(match[2])) != (start, stop - 1):
            return start
        return stop if match[3] in {str(blob.size_bytes), "*"} else start
    length = response.header("Content-Length")
    return blob.size_bytes if start == 0 and length in {None, str(blob.size_bytes)} else start


def _stated_size(response: Response) -> int | None:
    """Return the size of a whole blob, as an answer to a HEAD or to a range of it says."""
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        match = _CONTENT_RANGE.fullmatch(response.header("Content-Range") or "")
        size = match[3] if match else ""
    else:
        size = response.header("Content-Length") or ""
    return int(size) if size.isascii() and size.isdigit() and len(size) < _MAX_SIZE_DIGITS else None


async def _exactly(
    response: Response, blob: Descriptor, offset: int, stop: int, skip: int
) -> AsyncGenerator[bytes, None]:
    missing = stop - offset
    async with aclosing(response.chunks()) as chunks:
        async for chunk in chunks:
            data = chunk[skip:] if skip else chunk
            skip = max(0, skip - len(chunk))
            missing -= len(data)
            if missing < 0:
                raise PullFailedError(
                    f"{response.host} sends more of the blob {blob.digest} than its manifest says"
                )
            if data:
                yield data
    if missing:
        raise UpstreamUnavailableError(f"{response.host} broke off in the middle of the blob {blob.digest}")


def _parse_digest(text: str | None) -> Digest | None:
    try:
        return Digest.parse(text or "")
    except DigestError:
        return None


async def off_loop(data: bytes, work: Callable[..., T], *args: object) -> T:
    """Run `work(data, *args)` in a thread when there is so much that the event loop would wait for it."""
    if len(data) <= _OFF_LOOP_BYTES:
        return work(data, *args)
    return await asyncio.to_thread(work, data, *args)
