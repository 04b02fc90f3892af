"""The image of several platforms, from the images of each (docs/adr/0060-several-platforms.md). No I/O."""

from collections.abc import Sequence
from dataclasses import replace

from registry.model.images import ContentKind, ImageContent, StoredImage, Variant
from registry.oci.documents import Descriptor, Index
from registry.oci.mediatypes import OCI_INDEX
from registry.oci.platform import Platform
from registry.oci.platform_index import lists_only, platform_index
from registry.upstream.repository import Document
from storage.digest import Digest

Documents = Sequence[tuple[ImageContent, bytes]]


def join_platforms(root: Document, images: Sequence[StoredImage]) -> tuple[StoredImage, Documents]:
    """Return the image of all platforms, and the documents to be stored in addition.

    Args:
        root: The document that the reference names; an index if there are several images.
        images: The image of each platform, with its variant.
    """
    if len(images) == 1 or not isinstance(root.parsed, Index):
        return images[0], ()
    if lists_only(root.parsed, [_manifest(image) for image in images]):
        index = root.descriptor
        documents: list[tuple[ImageContent, bytes]] = []
    else:
        index, documents = _index(root.parsed.media_type, images)
    joined = _joined(images, index)
    if any(image.zstd for image in images):
        in_zstd = [image.zstd or image for image in images]
        zstd_index, zstd_documents = _index(OCI_INDEX, in_zstd)
        zstd = replace(_joined(in_zstd, zstd_index), digest=zstd_index.digest, variant=Variant.ZSTD)
        joined, documents = replace(joined, zstd=zstd), [*documents, *zstd_documents]
    return joined, documents


def _joined(images: Sequence[StoredImage], index: Descriptor) -> StoredImage:
    entry = ImageContent(index.digest, ContentKind.INDEX, index.media_type, index.size_bytes)
    contents = {content.digest: content for image in images for content in image.contents}
    return replace(
        images[0],
        platform=",".join(image.platform for image in images),
        contents=tuple({entry.digest: entry, **contents}.values()),
        size_bytes=max(image.size_bytes for image in images),
        zstd=None,
        index_digest=index.digest,
        platforms=tuple(images),
    )


def _index(
    media_type: str, images: Sequence[StoredImage]
) -> tuple[Descriptor, list[tuple[ImageContent, bytes]]]:
    data = platform_index(
        media_type, [(_manifest(image), Platform.parse(image.platform)) for image in images]
    )
    index = Descriptor(media_type, Digest.of(data), len(data))
    return index, [(ImageContent(index.digest, ContentKind.INDEX, media_type, len(data)), data)]


def _manifest(image: StoredImage) -> Descriptor:
    manifest = next(content for content in image.contents if content.digest == image.manifest_digest)
    return Descriptor(manifest.media_type, manifest.digest, manifest.size_bytes)
