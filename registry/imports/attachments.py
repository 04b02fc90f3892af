"""Import of the artifacts that are attached to an image: signatures, SBOMs, attestations.

Attachments are optional. Those that are missing, invalid or over a limit are skipped, and the image is
imported without them.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from functools import reduce
from typing import Final, TypeVar

import structlog

from registry.errors import DocumentError, ImportFailedError
from registry.imports.referrers import list_referrers
from registry.model.images import ContentKind, ImageContent, StoredImage
from registry.oci.attachments import RECORD_TYPE, TAG_SUFFIXES, Attachments, subject_tag
from registry.oci.documents import Artifact, Descriptor, parse_artifact
from registry.trust.facts import ImageFacts, facts_in_artifact
from registry.upstream.repository import UpstreamRepository, off_loop
from storage.digest import Digest

MAX_ATTACHMENTS: Final = 32
MAX_BLOB_BYTES: Final = 8 << 20
MAX_TOTAL_BYTES: Final = 32 << 20
TIMEOUT_S: Final = 30.0

_log = structlog.get_logger(__name__)

T = TypeVar("T")
Put = Callable[[ImageContent, bytes], Awaitable[None]]


class Attacher:
    """Finds and stores the attachments of one image.

    Args:
        source: The image's repository.
        put: Stores one document or blob.
    """

    def __init__(self, source: UpstreamRepository, put: Put) -> None:
        self._source = source
        self._put = put
        self._record = Attachments()
        self._artifacts: dict[Digest, Artifact] = {}
        self._contents: dict[Digest, ImageContent] = {}
        self._bytes_total = 0
        self._stated: dict[Digest, ImageFacts] = {}
        self._facts: defaultdict[Digest, ImageFacts] = defaultdict(ImageFacts)

    async def attach(
        self, image: StoredImage, attestations: Iterable[tuple[Digest, Digest]] = ()
    ) -> tuple[ImageContent, ...]:
        """Import the attachments of an image's root document and of the manifests of its platforms.

        Args:
            attestations: Digests of manifests, and of their attestations in the image's index.

        Returns:
            The contents to add to the image; empty if there are none.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S):
                manifests = (each.manifest_digest for each in image.platforms or (image,))
                for subject in dict.fromkeys((image.digest, *manifests)):
                    await self._attach_to(subject)
                for subject, attestation in attestations:
                    digest = await self._import_artifact(str(attestation))
                    self._state(subject, digest)
        except TimeoutError:
            _log.warning("attachments.cut_short", image=str(image.digest), found=len(self._artifacts))
        if not self._artifacts:
            return ()
        data = self._record.dump()
        record = ImageContent(Digest.of(data), ContentKind.ATTACHMENTS, RECORD_TYPE, len(data))
        try:
            await self._put(record, data)
        except ImportFailedError as error:
            _log.warning("attachments.left", image=str(image.digest), error=type(error).__name__)
            return ()
        known = {content.digest for content in image.contents}
        return (*(each for each in self._contents.values() if each.digest not in known), record)

    def facts(self, *subjects: Digest) -> ImageFacts:
        """Return what the attachments state about some of the image's documents."""
        return reduce(ImageFacts.joined, (self._facts[subject] for subject in subjects))

    def _state(self, subject: Digest, attachment: Digest | None) -> None:
        if attachment is not None:
            self._facts[subject] = self._facts[subject].joined(self._stated[attachment])

    async def _attach_to(self, subject: Digest) -> None:
        for entry in (await list_referrers(self._source, subject, _once))[:MAX_ATTACHMENTS]:
            digest = await self._import_artifact(str(entry["digest"]))
            if digest is not None and self._artifacts[digest].subject == subject:
                self._record.refer(self._artifacts[digest], digest, self._contents[digest].size_bytes)
                self._state(subject, digest)
        for tag in (subject_tag(subject, suffix) for suffix in TAG_SUFFIXES):
            digest = await self._import_artifact(tag)
            if digest is not None:
                self._record.tags[tag] = str(digest)
                self._state(subject, digest)

    async def _import_artifact(self, identifier: str) -> Digest | None:
        """Import one artifact completely. Returns its digest, or None if it was skipped."""
        try:
            data, content_type = await self._source.attempt(identifier)
            artifact = await off_loop(data, parse_artifact, content_type)
            digest = Digest.parse(identifier) if ":" in identifier else Digest.of(data)
            if digest not in self._artifacts:
                await self._store(artifact, digest, data)
        except (ImportFailedError, DocumentError) as error:
            _log.info("attachment.left", attachment=identifier, error=type(error).__name__)
            return None
        return digest

    async def _store(self, artifact: Artifact, digest: Digest, data: bytes) -> None:
        size_bytes = len(data) + sum(blob.size_bytes for blob in artifact.blobs)
        if max(blob.size_bytes for blob in artifact.blobs) > MAX_BLOB_BYTES:
            raise DocumentError("the attachment has a blob over the limit")
        if self._bytes_total + size_bytes > MAX_TOTAL_BYTES or len(self._artifacts) >= MAX_ATTACHMENTS:
            raise DocumentError("the attachments are over the limit")
        self._bytes_total += size_bytes
        stored: dict[Digest, ImageContent] = {}
        blobs: dict[Digest, bytes] = {}
        for blob in artifact.blobs:
            stored[blob.digest] = _content(blob, ContentKind.ATTACHMENT_BLOB)
            blobs[blob.digest] = await self._source.small_blob(blob)
            await self._put(stored[blob.digest], blobs[blob.digest])
        manifest = Descriptor(artifact.media_type, digest, len(data))
        stored[digest] = _content(manifest, ContentKind.ATTACHMENT)
        await self._put(stored[digest], data)
        self._stated[digest] = await asyncio.to_thread(facts_in_artifact, data, blobs)
        self._contents |= stored
        self._artifacts[digest] = artifact


async def _once(request: Callable[[], Awaitable[T]]) -> T | None:
    """Run a request without retries. Returns None if it fails: attachments are optional."""
    try:
        return await request()
    except ImportFailedError:
        return None


def _content(blob: Descriptor, kind: ContentKind) -> ImageContent:
    return ImageContent(blob.digest, kind, blob.media_type, blob.size_bytes)
