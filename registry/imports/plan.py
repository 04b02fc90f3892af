"""The plan of an import, made before any layer is fetched. Performs no I/O."""

from dataclasses import dataclass
from typing import Final

from registry.errors import ImageTooLargeError
from registry.model.images import ContentKind, ImageContent, StoredImage
from registry.oci.documents import Descriptor
from registry.upstream.image_documents import ImageDocuments

_GB: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """The parts of an image: documents that were fetched, and layers that remain to be fetched.

    Attributes:
        documents: Children before parents: the config, the manifest, then its indexes.
        layers: Base layer first, each digest once.
        image: The image as it is stored after the import.
    """

    documents: tuple[tuple[ImageContent, bytes], ...]
    layers: tuple[Descriptor, ...]
    image: StoredImage


def plan_import(documents: ImageDocuments, max_image_bytes: int) -> Plan:
    """Plan the import of one platform of an image.

    Raises:
        ImageTooLargeError: Config and layers exceed `max_image_bytes`; the message has both sizes.
    """
    config, *layers = documents.image.blobs
    size_bytes = config.size_bytes + sum(layer.size_bytes for layer in layers)
    if size_bytes > max_image_bytes:
        raise ImageTooLargeError(
            f"the image's compressed size is {_readable(size_bytes)}, the limit is "
            f"{_readable(max_image_bytes)}: make it smaller, or ask the operator for a higher limit"
        )
    fetched = _fetched(documents, config)
    contents = (
        *(content for content, _ in reversed(fetched)),
        *(_content(layer, ContentKind.LAYER) for layer in layers),
    )
    image = StoredImage(
        digest=documents.root.digest,
        manifest_digest=documents.manifest.digest,
        platform=str(documents.platform),
        contents=contents,
        size_bytes=size_bytes,
    )
    return Plan(tuple(fetched), tuple(layers), image)


def _fetched(documents: ImageDocuments, config: Descriptor) -> list[tuple[ImageContent, bytes]]:
    found = [(_content(config, ContentKind.CONFIG), documents.config)]
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
