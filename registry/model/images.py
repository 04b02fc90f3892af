"""Images: their blobs and variants, as storage and catalog keep them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

from storage.digest import Digest


class ContentKind(StrEnum):
    """What a stored blob is within its image."""

    INDEX = "index"
    MANIFEST = "manifest"
    CONFIG = "config"
    LAYER = "layer"
    ATTACHMENT = "attachment"  # the manifest of a signature, an SBOM ...
    ATTACHMENT_BLOB = "attachment_blob"
    ATTACHMENTS = "attachments"  # our own record of them (registry/oci/attachments.py)


class Variant(StrEnum):
    """The encodings of one image. Nodes get one of them (docs/adr/0034-zstd-variant-as-separate-image.md)."""

    ORIGINAL = "original"
    ZSTD = "zstd"


class WantedVariant(StrEnum):
    """Which of an image's encodings a node shall get."""

    AUTO = "auto"
    ORIGINAL = "original"
    ZSTD = "zstd"

    @property
    def choice(self) -> Variant | None:
        """What was chosen; None leaves it to what is known of the node."""
        return None if self is WantedVariant.AUTO else Variant(self.value)


@dataclass(frozen=True, slots=True)
class ImageContent:
    """One blob of an image: a document of it, the config, a layer, or of what is attached to it.

    Attributes:
        diff_id: Of a layer that was unpacked and found to be what the image's config says; else None.
    """

    digest: Digest
    kind: ContentKind
    media_type: str
    size_bytes: int
    diff_id: Digest | None = None


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image that storage holds whole.

    Attributes:
        digest: Of the document that the reference named: an index or a manifest.
        manifest_digest: Of the platform's manifest; equals `digest` where there was no index.
        contents: Every stored blob, each digest once.
        size_bytes: Config and layers of the platform, compressed, each digest once.
        variant: Which encoding this is.
        zstd: The same image with layers in zstd, where they gain by it; only on the original.
    """

    digest: Digest
    manifest_digest: Digest
    platform: str
    contents: tuple[ImageContent, ...]
    size_bytes: int
    variant: Variant = Variant.ORIGINAL
    zstd: "StoredImage | None" = None

    def content(self, digest: Digest) -> ImageContent | None:
        """Return the image's blob of that digest, or None: it is not of this image."""
        return next((c for c in self.contents if c.digest == digest), None)

    def with_attached(self, added: Sequence[ImageContent]) -> "StoredImage":
        """Return the image with something attached to it, which goes along with every variant."""
        zstd = self.zstd.with_attached(added) if self.zstd else None
        return replace(self, contents=(*self.contents, *added), zstd=zstd)

    @property
    def platform_blobs(self) -> Mapping[str, int]:
        """Config and layers, digest to size: what a node has to fetch."""
        kinds = (ContentKind.CONFIG, ContentKind.LAYER)
        return {str(c.digest): c.size_bytes for c in self.contents if c.kind in kinds}


class ImageDirectory(Protocol):
    """The images that are stored."""

    async def list(self, organization: str | None, limit: int) -> Sequence[Mapping[str, Any]]:
        """Return the newest images as rows, of an organization or of all, with their variants' sizes."""
