"""Resolution of a reference to the documents of its image: optional indexes, one manifest, its config."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from registry.errors import DocumentError, PullFailedError
from registry.oci import mediatypes
from registry.oci.config import parse_config_platform
from registry.oci.documents import Index, Manifest
from registry.oci.platform import Platform
from registry.upstream.repository import Document, UpstreamRepository, off_loop, unusable
from storage.digest import Digest

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


@dataclass(frozen=True, slots=True)
class ImagePlatforms:
    """Documents of those wanted platforms that an image has.

    Attributes:
        found: At least one, in the wanted order; each manifest once, even if it serves two platforms.
        missing: The wanted platforms that the image does not have.
    """

    found: tuple[ImageDocuments, ...]
    missing: tuple[Platform, ...]


async def read_platforms(source: UpstreamRepository, wanted: Sequence[Platform]) -> ImagePlatforms:
    """Fetch and verify an image's documents for all wanted platforms that it has, before any layer.

    Raises:
        AuthenticationFailedError: The registry refused the credentials.
        PullFailedError: The image does not exist, has no wanted platform, is corrupt or not supported.
    """
    root = await source.document(source.reference.identifier)
    found: dict[Digest, ImageDocuments] = {}
    missing: list[Platform] = []
    for platform in wanted:
        documents = await _read_platform(source, root, platform)
        if documents is None:
            missing.append(platform)
        else:
            found.setdefault(documents.manifest.digest, documents)
    if not found:
        named = " or ".join(map(str, wanted))
        raise PullFailedError(f"{source.reference} has no image for {named}")
    return ImagePlatforms(tuple(found.values()), tuple(missing))


async def read_documents(source: UpstreamRepository, wanted: Platform) -> ImageDocuments:
    """Fetch and verify an image's documents for one platform. Raises as `read_platforms`."""
    (documents,) = (await read_platforms(source, [wanted])).found
    return documents


async def _read_platform(
    source: UpstreamRepository, root: Document, wanted: Platform
) -> ImageDocuments | None:
    fetched, fallback = 0, None
    async for indexes, manifest in _manifests(source, (), root, wanted):
        parsed = manifest.parsed
        fetched += 1
        if not isinstance(parsed, Manifest) or fetched > MAX_CANDIDATES:
            break
        config = await source.small_blob(parsed.config)
        platform = _agreed(_listed(indexes, manifest, wanted), await _platform(source, config))
        found = ImageDocuments(indexes, manifest, config, platform or wanted)
        if found.platform.architecture == wanted.architecture and wanted.runs(found.platform):
            return found
        if fallback is None and wanted.runs(found.platform):
            fallback = found
    return fallback


def _listed(indexes: tuple[Document, ...], manifest: Document, wanted: Platform) -> Platform | None:
    """Return the platform under which the innermost index lists a manifest."""
    index = indexes[-1].parsed if indexes else None
    entries = index.manifests if isinstance(index, Index) else ()
    stated = [entry.platform for entry in entries if entry.digest == manifest.digest and entry.platform]
    return next((platform for platform in stated if wanted.runs(platform)), None)


def _agreed(listed: Platform | None, config: Platform | None) -> Platform | None:
    """Return a manifest's platform. The index knows the variant, which configs often omit."""
    if listed is None or config is None:
        return config
    same = (listed.os, listed.architecture) == (config.os, config.architecture)
    return listed if same else config


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
