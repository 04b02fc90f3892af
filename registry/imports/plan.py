"""The plan of an import, made before any layer is fetched. Performs no I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from registry.errors import ImageTooLargeError
from registry.model.images import ContentKind, ImageContent, StoredImage
from registry.oci.documents import Descriptor
from registry.upstream.image_documents import ImageDocuments
from storage.digest import Digest

_GB: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """One platform of an image: its documents, and the image as it is stored after the import."""

    documents: ImageDocuments
    image: StoredImage


@dataclass(frozen=True, slots=True)
class Plan:
    """The parts of an image: documents that were fetched, and layers that remain to be fetched.

    Attributes:
        documents: Children before parents: the config, the manifest, then its indexes. Each digest once.
        layers: Base layer first, each digest once, also if several platforms share it.
        platforms: The image of each platform.
    """

    documents: tuple[tuple[ImageContent, bytes], ...]
    layers: tuple[Descriptor, ...]
    platforms: tuple[PlannedImage, ...]

    @property
    def digests(self) -> Sequence[Digest]:
        """Digests of all contents."""
        contents = (content for each in self.platforms for content in each.image.contents)
        return list(dict.fromkeys(content.digest for content in contents))


def plan_import(platforms: Sequence[ImageDocuments], max_image_bytes: int) -> Plan:
    """Plan the import of some platforms of an image.

    Raises:
        ImageTooLargeError: Config and layers of one platform exceed `max_image_bytes`; the message has both
            sizes.
    """
    planned = tuple(PlannedImage(each, _plan_platform(each, max_image_bytes)) for each in platforms)
    fetched = {content.digest: (content, data) for each in platforms for content, data in _fetched(each)}
    layers = {layer.digest: layer for each in platforms for layer in each.image.blobs[1:]}
    return Plan(tuple(fetched.values()), tuple(layers.values()), planned)


def _plan_platform(documents: ImageDocuments, max_image_bytes: int) -> StoredImage:
    config, *layers = documents.image.blobs
    size_bytes = config.size_bytes + sum(layer.size_bytes for layer in layers)
    if size_bytes > max_image_bytes:
        raise ImageTooLargeError(
            f"the image's compressed size is {_readable(size_bytes)}, the limit is "
            f"{_readable(max_image_bytes)}: make it smaller, or ask the operator for a higher limit"
        )
    contents = (
        *(content for content, _ in reversed(_fetched(documents))),
        *(_content(layer, ContentKind.LAYER) for layer in layers),
    )
    return StoredImage(
        digest=documents.root.digest,
        manifest_digest=documents.manifest.digest,
        platform=str(documents.platform),
        contents=contents,
        size_bytes=size_bytes,
    )


def _fetched(documents: ImageDocuments) -> list[tuple[ImageContent, bytes]]:
    found = [(_content(documents.image.config, ContentKind.CONFIG), documents.config)]
    found.append((_content(documents.manifest.descriptor, ContentKind.MANIFEST), documents.manifest.data))
    found += [
        (_content(index.descriptor, ContentKind.INDEX), index.data) for index in reversed(documents.indexes)
    ]
    return found


def _content(blob: Descriptor, kind: ContentKind) -> ImageContent:
    return ImageContent(blob.digest, kind, blob.media_type, blob.size_bytes)


def _readable(size_bytes: int) -> str:
    if size_bytes < _GB // 10:
        return f"{size_bytes:,} bytes"
    return f"{size_bytes / _GB:.2f} GB"
