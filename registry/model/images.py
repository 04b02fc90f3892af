"""Stored images: their blobs and variants."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

from storage.digest import Digest


class ContentKind(StrEnum):
    """Role of a stored blob in its image."""

    INDEX = "index"
    MANIFEST = "manifest"
    CONFIG = "config"
    LAYER = "layer"
    ATTACHMENT = "attachment"  # the manifest of a signature, an SBOM ...
    ATTACHMENT_BLOB = "attachment_blob"
    ATTACHMENTS = "attachments"  # Crisper's list of attachments (registry/oci/attachments.py)


class Variant(StrEnum):
    """Encoding of an image's layers. A pull gets one (docs/adr/0034-zstd-variant-as-separate-image.md)."""

    ORIGINAL = "original"
    ZSTD = "zstd"


class WantedVariant(StrEnum):
    """Requested variant; `auto` depends on the node's zstd support."""

    AUTO = "auto"
    ORIGINAL = "original"
    ZSTD = "zstd"

    @property
    def choice(self) -> Variant | None:
        """The explicit choice; None for `auto`."""
        return None if self is WantedVariant.AUTO else Variant(self.value)


@dataclass(frozen=True, slots=True)
class ImageContent:
    """One blob of an image: a document, the config, a layer, or part of an attachment.

    Attributes:
        diff_id: Digest of the unpacked layer, if it was verified against the image's config; else None.
    """

    digest: Digest
    kind: ContentKind
    media_type: str
    size_bytes: int
    diff_id: Digest | None = None


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image whose blobs are all in storage.

    Attributes:
        digest: Digest of the document that the reference named: an index or a manifest.
        manifest_digest: Digest of the platform's manifest; equals `digest` if there is no index.
        contents: All stored blobs, each digest once.
        size_bytes: Compressed size of the platform's config and layers, each digest once.
        variant: Encoding of this image.
        zstd: Variant with zstd layers, if it is smaller; only set on the original.
    """

    digest: Digest
    manifest_digest: Digest
    platform: str
    contents: tuple[ImageContent, ...]
    size_bytes: int
    variant: Variant = Variant.ORIGINAL
    zstd: "StoredImage | None" = None

    def content(self, digest: Digest) -> ImageContent | None:
        """Return the image's blob with this digest, or None if the image does not contain it."""
        return next((c for c in self.contents if c.digest == digest), None)

    def with_attached(self, added: Sequence[ImageContent]) -> "StoredImage":
        """Return the image with additional attachments, also on its variant."""
        zstd = self.zstd.with_attached(added) if self.zstd else None
        return replace(self, contents=(*self.contents, *added), zstd=zstd)

    @property
    def has_zstd_layers(self) -> bool:
        """Whether only engines that support zstd can unpack every layer."""
        return any(c.kind is ContentKind.LAYER and c.media_type.endswith("zstd") for c in self.contents)

    @property
    def platform_blobs(self) -> Mapping[str, int]:
        """Sizes in bytes, by digest, of the config and the layers: the blobs that a node fetches."""
        kinds = (ContentKind.CONFIG, ContentKind.LAYER)
        return {str(c.digest): c.size_bytes for c in self.contents if c.kind in kinds}


class ImageDirectory(Protocol):
    """Directory of stored images."""

    async def list(self, organization: str | None, limit: int) -> Sequence[Mapping[str, Any]]:
        """Return the newest images of one or all organizations, as rows with the sizes of their variants."""
