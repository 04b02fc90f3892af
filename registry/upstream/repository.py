"""Access to one repository of an upstream registry: documents and blob streams (OCI distribution-spec)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeVar

from yarl import URL

from registry.errors import (
    DocumentError,
    ImportFailedError,
    PullFailedError,
    RangeRefusedError,
    UpstreamUnavailableError,
)
from registry.oci import mediatypes
from registry.oci.documents import Descriptor, Index, Manifest, parse_document
from registry.oci.reference import Reference
from registry.upstream.authorization import Authorization
from registry.upstream.extent import Piece, check_whole, exactly, extent_of_range, stated_size
from registry.upstream.requests import AuthenticatedRequests
from registry.upstream.response import Response
from registry.upstream.retry import Backoff, Retries
from registry.upstream.transport import Transport
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


@dataclass(frozen=True, slots=True)
class ReferrersPage:
    """One page of a list of referrers, not parsed.

    Attributes:
        next: URL of the next page; None on the last one.
    """

    data: bytes
    media_type: str | None
    next: URL | None


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
        *,
        max_manifest_bytes: int,
    ) -> None:
        self.reference = reference
        self.backoff = backoff
        self.waiting: Callable[[UpstreamUnavailableError], None] = lambda _error: None
        self._origin = origin
        self._base = origin / "v2" / reference.repository
        self._requests = AuthenticatedRequests(transport, origin, reference, authorization)
        self._max_manifest_bytes = max_manifest_bytes
        self._without_ranges: set[Digest] = set()

    async def report_complete(self, token_id: str) -> bool:
        """Report to Crisper that the pull with a token is complete. Returns whether it was accepted.

        A pull that cannot be reported is complete nevertheless; Crisper then finds out by itself.
        """
        url = self._origin / "api/v1/pull-tokens" / token_id / "complete"
        try:
            async with self._requests.send_small("POST", url, "report of a complete pull"):
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
            self._requests.root = document.digest
        return document

    async def moved(self) -> bool:
        """Resolve the tag again. Returns whether it names another document than before.

        Raises:
            AuthenticationFailedError, PullFailedError: As for `document`.
        """
        before, self._requests.root = self._requests.root, None
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

    async def attempt(self, identifier: str) -> tuple[bytes, str | None]:
        """Fetch an optional manifest or index without retries. Returns its bytes and its Content-Type.

        Tags are requested with HEAD first, because Docker Hub counts a GET as a pull even if the tag does not
        exist.

        Args:
            identifier: A digest, against which the document is verified, or a tag.

        Raises:
            AuthenticationFailedError: The registry refused the credentials.
            PullFailedError: The document does not exist or is corrupt, or there was no answer.
        """
        named = _parse_digest(identifier)
        if named is None:
            async with self._small("HEAD", identifier):
                pass
        async with self._small("GET", identifier) as response:
            data = await response.read(self._max_manifest_bytes, "a manifest", configured=True)
            content_type = response.header("Content-Type")
        if named is not None and not await off_loop(data, named.matches):
            raise PullFailedError(self._other_bytes(f"manifest {named}"))
        return data, content_type

    async def referrers(self, subject: Digest, page: URL | None = None) -> ReferrersPage:
        """Fetch one page of a digest's referrers without retries (distribution-spec, "Listing Referrers").

        Args:
            page: The `next` of the page before; None fetches the first page.

        Raises:
            AuthenticationFailedError: The registry refused the credentials.
            PullFailedError: The registry does not have the list, or there was no answer.
        """
        first = self._base / "referrers" / str(subject)
        async with self._small("GET", str(subject), "referrers", page) as response:
            data = await response.read(self._max_manifest_bytes, "a list of referrers", configured=True)
            content_type, following = response.header("Content-Type"), response.next_page
        # The credentials are for this list only: a link to another one is not followed.
        is_same = following is not None and (following.origin(), following.path) == (
            first.origin(),
            first.path,
        )
        return ReferrersPage(data, content_type, following if is_same else None)

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
                async with self._requests.send_small(
                    method, url, f"blob {blob.digest}", headers=headers
                ) as response:
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
            async with self._requests.send("GET", url, f"blob {blob.digest}", headers=headers) as response:
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
            data = await response.read(self._max_manifest_bytes, "a manifest", configured=True)
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
    async def _small(
        self, method: str, identifier: str, kind: str = "manifests", page: URL | None = None
    ) -> AsyncIterator[Response]:
        url = page or self._base / kind / identifier
        what = (
            f"image {self.reference}" if identifier == self.reference.identifier else f"manifest {identifier}"
        )
        async with self._requests.send_small(method, url, what, accept=mediatypes.ACCEPTED) as response:
            if response.status != HTTPStatus.OK:
                raise PullFailedError(
                    f"{response.host} answers {response.status} for {what}: check that this host is the "
                    "image's registry"
                )
            yield response

    async def _small_blob(self, blob: Descriptor) -> bytes:
        url = self._base / "blobs" / str(blob.digest)
        async with self._requests.send_small("GET", url, f"blob {blob.digest}") as response:
            if response.gzipped and response.header("Content-Length") != str(blob.size_bytes):
                data = await response.read(blob.size_bytes, f"the blob {blob.digest}")
            else:
                check_whole(response, blob)
                data = b"".join([chunk async for chunk in exactly(response, blob, blob.size_bytes)])
        if not await off_loop(data, blob.digest.matches):
            raise PullFailedError(self._other_bytes(f"blob {blob.digest}"))
        return data


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
