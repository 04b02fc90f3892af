"""Access to one repository of an upstream registry: documents and blob streams (OCI distribution-spec)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeVar

from yarl import URL

from auth.secret import Secret
from registry.errors import (
    DocumentError,
    ImportFailedError,
    PullFailedError,
    RangeRefusedError,
    UpstreamMissingError,
    UpstreamUnavailableError,
)
from registry.oci import mediatypes
from registry.oci.documents import MAX_DOCUMENT_BYTES, Descriptor, Index, Manifest, parse_document
from registry.oci.reference import Reference
from registry.upstream.authorization import Authorization
from registry.upstream.egress import origin_of
from registry.upstream.extent import Piece, check_whole, exactly, extent_of_range, stated_size
from registry.upstream.guests import Guests, wants_token
from registry.upstream.retry import Backoff, Retries, is_outage, is_transient
from registry.upstream.transport import Response, Transport
from storage.digest import Digest
from storage.errors import DigestError

T = TypeVar("T")

_OFF_LOOP_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Document:
    """A verified manifest or index: its original bytes and the parsed content."""

    data: bytes
    digest: Digest
    parsed: Manifest | Index

    @property
    def descriptor(self) -> Descriptor:
        """The document's descriptor."""
        return Descriptor(self.parsed.media_type, self.digest, len(self.data))


class UpstreamRepository:
    """One repository of an upstream registry, accessed with one credential.

    Attributes:
        waiting: Called with the failure before each wait for a registry that does not answer.
    """

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
        self.waiting: Callable[[UpstreamUnavailableError], None] = lambda _error: None
        self._answered = False
        self._transport = transport
        self._origin = origin
        self._base = origin / "v2" / reference.repository
        self._authorization = authorization
        self._guests = Guests(transport, origin, reference.repository)
        self._root: Digest | None = None
        self._without_ranges: set[Digest] = set()

    async def report_complete(self, token_id: str) -> bool:
        """Report to Crisper that the pull with a token is complete. Returns whether it was accepted.

        A pull that cannot be reported is complete nevertheless; Crisper then finds out by itself.
        """
        url = self._origin / "api/v1/pull-tokens" / token_id / "complete"
        try:
            async with (
                self._transport.document_deadline(self.reference.host),
                self._request("POST", url, "report of a complete pull"),
            ):
                return True
        except PullFailedError:
            return False

    @property
    def encrypted(self) -> bool:
        """Whether the connection uses TLS, so that the registry's identity is verified."""
        return self._base.scheme == "https"

    async def document(self, identifier: str, expected: Descriptor | None = None) -> Document:
        """Fetch a manifest or an index, verified against its digest.

        Args:
            identifier: A tag or a digest.
            expected: The descriptor in the index that references it, if any.

        Raises:
            AuthenticationFailedError: The registry refused the credentials.
            PullFailedError: The document does not exist, is corrupt or not supported, or the registry did
                not answer after retries.
        """
        document = await self._retry(lambda: self._document(identifier, expected))
        if identifier == self.reference.identifier:
            self._root = document.digest
        return document

    async def moved(self) -> bool:
        """Resolve the tag again. Returns whether it names another document than before.

        Raises:
            AuthenticationFailedError, PullFailedError: As for `document`.
        """
        before, self._root = self._root, None
        if before is None or self.reference.digest is not None:
            return False
        return (await self.document(self.reference.identifier)).digest != before

    async def resolve(self, identifier: str) -> Descriptor:
        """Resolve a tag or digest with a HEAD request, which does not count as a pull at Docker Hub.

        Raises:
            AuthenticationFailedError: The registry refused the credentials.
            PullFailedError: It does not exist, or the response does not describe it.
        """
        return await self._retry(lambda: self._resolve(identifier))

    async def attempt(self, identifier: str, kind: str = "manifests") -> tuple[bytes, str | None]:
        """Fetch an optional document without retries. Returns its bytes and its Content-Type.

        Tags are requested with HEAD first, because Docker Hub counts a GET as a pull even if the tag does not
        exist.

        Args:
            identifier: A digest, against which a manifest is verified, or a tag.
            kind: `manifests` or `referrers`.

        Raises:
            AuthenticationFailedError: The registry refused the credentials.
            PullFailedError: The document does not exist or is corrupt, or there was no answer.
        """
        named = _parse_digest(identifier) if kind == "manifests" else None
        if kind == "manifests" and named is None:
            async with self._small("HEAD", identifier, kind):
                pass
        async with self._small("GET", identifier, kind) as response:
            data = await response.read(MAX_DOCUMENT_BYTES, "a manifest")
            content_type = response.header("Content-Type")
        if named is not None and not await off_loop(data, named.matches):
            raise PullFailedError(self._other_bytes(f"manifest {named}"))
        return data, content_type

    async def small_blob(self, blob: Descriptor) -> bytes:
        """Fetch and verify a small blob. Callers check `blob.size_bytes` against a limit.

        Raises:
            AuthenticationFailedError: The registry refused the credentials.
            PullFailedError: The blob does not exist or is corrupt, or there was no answer after retries.
        """
        return await self._retry(lambda: self._small_blob(blob))

    async def admits(self, blob: Descriptor) -> bool:
        """Return whether this credential can access the blob now, with its size. Any failure counts as no.

        Tries HEAD first, then a GET of one byte, because signed URLs of redirects are often valid only for
        GET.
        """
        url = self._base / "blobs" / str(blob.digest)
        for method, headers in (("HEAD", {}), ("GET", {"Range": "bytes=0-0"})):
            try:
                async with (
                    self._transport.document_deadline(self.reference.host),
                    self._request(method, url, f"blob {blob.digest}", headers=headers) as response,
                ):
                    return stated_size(response) == blob.size_bytes
            except ImportFailedError:
                continue
        return False

    @asynccontextmanager
    async def piece(self, blob: Descriptor, start: int, stop: int) -> AsyncIterator[Piece]:
        """Request a range of a blob, without retries.

        The piece is the range, or the whole blob if the upstream ignores ranges or `disable_ranges` was
        called. The requested range always has an end, because some registries refuse `bytes=a-`.

        Args:
            start: Offset of the first byte.
            stop: Offset after the last byte.

        Raises:
            AuthenticationFailedError: The registry refused the credentials.
            PullFailedError: The blob does not exist, or has another size.
            RangeRefusedError: The range request failed permanently; a request for the whole blob may succeed.
            UpstreamUnavailableError: A transient failure, or the stream ended early.
        """
        url = self._base / "blobs" / str(blob.digest)
        whole = (start, stop) == (0, blob.size_bytes) or blob.digest in self._without_ranges
        headers = {} if whole else {"Range": f"bytes={start}-{stop - 1}"}
        try:
            async with self._request("GET", url, f"blob {blob.digest}", headers=headers) as response:
                if whole:
                    check_whole(response, blob)
                    begin, end = 0, blob.size_bytes
                else:
                    begin, end = extent_of_range(response, blob, start, stop)
                async with aclosing(exactly(response, blob, end - begin)) as chunks:
                    yield Piece(begin, end, chunks)
        except UpstreamUnavailableError:
            raise
        except ImportFailedError as error:
            if whole:
                raise
            # A request for the whole blob shows whether the error, even 401 or 403, concerns only the range.
            raise RangeRefusedError(error.sentence) from None

    def disable_ranges(self, blob: Descriptor) -> None:
        """Request this blob without ranges from now on."""
        self._without_ranges.add(blob.digest)

    def _other_bytes(self, what: str) -> str:
        return (
            f"{self.reference.host} sent other bytes for the {what} than its digest says: push the image "
            "again"
        )

    def retries(self) -> Retries:
        """Begin to count the failures of one operation."""
        return Retries(self.backoff, self.waiting)

    async def _retry(self, attempt: Callable[[], Awaitable[T]]) -> T:
        retries = self.retries()
        while True:
            try:
                return await attempt()
            except UpstreamUnavailableError as error:
                await retries.wait(error)

    async def _document(self, identifier: str, expected: Descriptor | None) -> Document:
        async with self._small("GET", identifier) as response:
            data = await response.read(MAX_DOCUMENT_BYTES, "a manifest")
            content_type, declared = response.header("Content-Type"), response.header("Docker-Content-Digest")
        named = _parse_digest(identifier) or _parse_digest(declared)
        if expected is not None and expected.size_bytes != len(data):
            raise PullFailedError(
                f"{self.reference.host} has a manifest of {self.reference} in another size than its index "
                "says: push the image again"
            )
        if named is not None and not await off_loop(data, named.matches):
            raise PullFailedError(self._other_bytes(f"manifest {named}"))
        try:
            parsed = await off_loop(data, parse_document, content_type)
        except DocumentError as error:
            raise unusable(self.reference, error) from None
        digest = _parse_digest(identifier)
        return Document(data, digest if digest is not None else await off_loop(data, Digest.of), parsed)

    async def _resolve(self, identifier: str) -> Descriptor:
        async with self._small("HEAD", identifier) as response:
            digest = _parse_digest(response.header("Docker-Content-Digest"))
            size, media_type = response.header("Content-Length"), response.header("Content-Type")
        if digest is None or size is None or not size.isdigit() or media_type is None:
            raise PullFailedError(
                f"{response.host} does not say what {self.reference} is: ask the registry's administrator "
                "whether it supports HEAD requests"
            )
        return Descriptor(mediatypes.bare(media_type), digest, int(size))

    @asynccontextmanager
    async def _small(self, method: str, identifier: str, kind: str = "manifests") -> AsyncIterator[Response]:
        url = self._base / kind / identifier
        what = (
            f"image {self.reference}" if identifier == self.reference.identifier else f"manifest {identifier}"
        )
        async with (
            self._transport.document_deadline(self.reference.host),
            self._request(method, url, what, accept=mediatypes.ACCEPTED) as response,
        ):
            if response.status != HTTPStatus.OK:
                raise PullFailedError(
                    f"{response.host} answers {response.status} for {what}: check that this host is the "
                    "image's registry"
                )
            yield response

    async def _small_blob(self, blob: Descriptor) -> bytes:
        url = self._base / "blobs" / str(blob.digest)
        async with (
            self._transport.document_deadline(self.reference.host),
            self._request("GET", url, f"blob {blob.digest}") as response,
        ):
            if response.gzipped and response.header("Content-Length") != str(blob.size_bytes):
                data = await response.read(blob.size_bytes, f"the blob {blob.digest}")
            else:
                check_whole(response, blob)
                data = b"".join([chunk async for chunk in exactly(response, blob, blob.size_bytes)])
        if not await off_loop(data, blob.digest.matches):
            raise PullFailedError(self._other_bytes(f"blob {blob.digest}"))
        return data

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
        """Send an authenticated request; authenticate and retry once after a 401, a 403 and a 404."""
        answered: set[tuple[str, int]] = set()
        try:
            while True:
                shown = await self._authorization.header()
                elsewhere = await self._guests.headers()
                async with self._transport.send(
                    method, url, headers=headers, accept=accept, authorization=shown, elsewhere=elsewhere
                ) as response:
                    answer = origin_of(response.origin), response.status
                    if answer not in answered:
                        answered.add(answer)
                        if await self._authenticates(response, shown, elsewhere):
                            continue
                    # A blob's signed URL may have expired: retry for another. A refused range is permanent.
                    signed = response.redirected and "blobs" in url.parts and "Range" not in (headers or {})
                    self._check_status(response, what, signed=signed)
                    self._answered = True
                    yield response
                    return
        except UpstreamUnavailableError as error:
            if error.outage or not self._answered:
                raise
            # It worked before.
            raise UpstreamUnavailableError(error.sentence, error.retry_after_s, outage=True) from error

    async def _authenticates(
        self, response: Response, shown: Secret | None, elsewhere: Mapping[str, Secret]
    ) -> bool:
        """Authenticate as a response requires. Returns whether to retry the request."""
        if response.redirected:
            return await self._guests.refused(response, elsewhere)
        match response.status:
            case HTTPStatus.UNAUTHORIZED:
                await self._authorization.refused(response, shown)
                return True
            case HTTPStatus.FORBIDDEN:
                return await self._authorization.found(shown) or await self._authorization.renewed(shown)
            case HTTPStatus.NOT_FOUND:
                return await self._authorization.found(shown)
            case HTTPStatus.OK | HTTPStatus.PARTIAL_CONTENT:
                self._authorization.admitted(shown)
        return False

    def _check_status(self, response: Response, what: str, *, signed: bool) -> None:
        status = response.status
        if status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            return
        if wants_token(response):
            raise self._guests.refusal(response)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            raise self._authorization.exhaustion(response.host, response.retry_after_s)
        if is_transient(status) or (signed and status < HTTPStatus.INTERNAL_SERVER_ERROR):
            raise UpstreamUnavailableError(
                f"{response.host} answers {status} for {what}: check that the registry works, and try "
                "again later",
                response.retry_after_s,
                outage=is_outage(status),
            )
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise (self._guests.refusal(response) if response.redirected else self._authorization.refusal())
        if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
            raise UpstreamMissingError(self._missing(response.host, what))
        raise PullFailedError(
            f"{response.host} answers {status} for {what}: check that this host is the image's registry, "
            "and that its rules allow to pull the image"
        )

    def _missing(self, host: str, what: str) -> str:
        if self._root is not None:
            return (
                f"{host} lacks {what}, a part of {self.reference}: push the image again, and check that no "
                "cleanup job removes untagged manifests"
            )
        if self.reference.digest is not None:
            return f"{host} has no {what}: check that it was pushed to this repository and not deleted since"
        return f"{host} has no {what}: check its spelling, and that it was pushed"


def unusable(reference: Reference, error: DocumentError) -> PullFailedError:
    """Build the error for an image with an invalid or unsupported document."""
    advice = "" if ": " in str(error) else ": push the image again with a current build tool"
    why = f"{error}{advice}"
    return PullFailedError(f"{reference} cannot be imported: {why}")


def _parse_digest(text: str | None) -> Digest | None:
    try:
        return Digest.parse(text or "")
    except DigestError:
        return None


async def off_loop(data: bytes, work: Callable[..., T], *args: object) -> T:
    """Run `work(data, *args)`, in a thread if `data` is so large that it would block the event loop."""
    if len(data) <= _OFF_LOOP_BYTES:
        return work(data, *args)
    return await asyncio.to_thread(work, data, *args)
