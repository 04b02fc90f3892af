"""Resolution of a reference to the documents of its image: optional indexes, one manifest, its config."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from registry.errors import DocumentError, PullFailedError
from registry.oci import mediatypes
from registry.oci.documents import Manifest, parse_config_platform
from registry.oci.platform import Platform
from registry.upstream.repository import Document, UpstreamRepository, off_loop, unusable

MAX_INDEX_DEPTH: Final = 2
MAX_CANDIDATES: Final = 8


@dataclass(frozen=True, slots=True)
class ImageDocuments:
    """All documents of an image, verified, without its layers.

    Attributes:
        indexes: The path from the referenced index down to the manifest; empty without an index.
        manifest: The manifest of the chosen platform.
        config: The bytes of the manifest's config.
        platform: The platform according to the config or the index, else the requested one.
    """

    indexes: tuple[Document, ...]
    manifest: Document
    config: bytes
    platform: Platform

    @property
    def root(self) -> Document:
        """The document that the reference points to."""
        return (*self.indexes, self.manifest)[0]

    @property
    def image(self) -> Manifest:
        """The chosen manifest, parsed."""
        parsed = self.manifest.parsed
        if not isinstance(parsed, Manifest):
            raise PullFailedError("the image has an index where a manifest belongs: push the image again")
        return parsed


async def read_documents(source: UpstreamRepository, wanted: Platform) -> ImageDocuments:
    """Fetch and verify an image's documents for one platform, before any layer.

    Raises:
        AuthenticationFailedError: The registry refused the credentials.
        PullFailedError: The image does not exist, is not for this platform, is corrupt or not supported.
    """
    root = await source.document(source.reference.identifier)
    fetched, fallback = 0, None
    async for indexes, manifest in _manifests(source, (), root, wanted):
        parsed = manifest.parsed
        fetched += 1
        if not isinstance(parsed, Manifest) or fetched > MAX_CANDIDATES:
            break
        config = await source.small_blob(parsed.config)
        platform = await _platform(source, config)
        found = ImageDocuments(indexes, manifest, config, platform or wanted)
        if found.platform.architecture == wanted.architecture and wanted.runs(found.platform):
            return found
        if fallback is None and wanted.runs(found.platform):
            fallback = found
    if fallback is not None:
        return fallback
    raise PullFailedError(f"{source.reference} has no image for {wanted}")


async def _manifests(
    source: UpstreamRepository, above: tuple[Document, ...], document: Document, wanted: Platform
) -> AsyncIterator[tuple[tuple[Document, ...], Document]]:
    """Yield the candidate manifests below a document, best first, each with the indexes above it."""
    parsed = document.parsed
    if isinstance(parsed, Manifest):
        yield above, document
        return
    if len(above) >= MAX_INDEX_DEPTH:
        raise PullFailedError(
            f"{source.reference} nests indexes deeper than {MAX_INDEX_DEPTH}: push the image without nested "
            "indexes"
        )
    path = (*above, document)
    kinds = mediatypes.INDEXES | mediatypes.MANIFESTS
    known = [entry for entry in parsed.candidates(wanted) if entry.media_type in kinds]
    for entry in known[:MAX_CANDIDATES]:
        child = await source.document(str(entry.digest), entry)
        if child.parsed.media_type != entry.media_type:
            raise PullFailedError(
                f"{source.reference} names a manifest of another kind than it has: push the image again"
            )
        async for found in _manifests(source, path, child, wanted):
            yield found


async def _platform(source: UpstreamRepository, config: bytes) -> Platform | None:
    try:
        return await off_loop(config, parse_config_platform)
    except DocumentError as error:
        raise unusable(source.reference, error) from None
