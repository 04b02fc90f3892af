"""Stored images: their blobs and variants."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, Protocol

from registry.oci.platform import Platform
from registry.trust.facts import ImageFacts
from registry.trust.verdict import Verdict
from storage.digest import Digest

_NO_FACTS: Final = ImageFacts()


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
        plaintext: In an encrypted session, the digest of the stored layer or document that this replaces.
    """

    digest: Digest
    kind: ContentKind
    media_type: str
    size_bytes: int
    diff_id: Digest | None = None
    plaintext: Digest | None = None

    @property
    def stored_digest(self) -> Digest:
        """Digest under which it is stored, and counted in the ledger."""
        return self.plaintext or self.digest


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image whose blobs are all in storage, for one platform or several.

    Attributes:
        digest: Digest of the document that the reference named: an index or a manifest. In a session, the
            digest of the document that tags name.
        manifest_digest: Digest of the platform's manifest; equals `digest` if there is no index.
        platform: Its platform; of several platforms all names, separated by commas.
        contents: All stored blobs, each digest once.
        size_bytes: Compressed size of the platform's config and layers, each digest once; of several
            platforms the largest size.
        variant: Encoding of this image.
        zstd: Variant with zstd layers, if it is smaller; only set on the original.
        index_digest: Digest of the index of the imported platforms, if there are several.
        platforms: The image of each platform, if there are several; else empty.
        missing_platforms: After an import, the wanted platforms that the image does not have.
        verdict: After an import, what was found about its signatures; None if no policy was for the image.
        facts: After an import, what is stated about the image.
    """

    digest: Digest
    manifest_digest: Digest
    platform: str
    contents: tuple[ImageContent, ...]
    size_bytes: int
    variant: Variant = Variant.ORIGINAL
    zstd: "StoredImage | None" = None
    index_digest: Digest | None = None
    platforms: tuple["StoredImage", ...] = ()
    missing_platforms: tuple[str, ...] = ()
    verdict: Verdict | None = None
    facts: ImageFacts = _NO_FACTS

    def content(self, digest: Digest) -> ImageContent | None:
        """Return the image's blob with this digest, or None if the image does not contain it."""
        return next((c for c in self.contents if c.digest == digest), None)

    def with_attached(self, added: Sequence[ImageContent]) -> "StoredImage":
        """Return the image with additional attachments, also on its variant and its platforms."""
        zstd = self.zstd.with_attached(added) if self.zstd else None
        platforms = tuple(platform.with_attached(added) for platform in self.platforms)
        return replace(self, contents=(*self.contents, *added), zstd=zstd, platforms=platforms)

    def with_facts(self, facts_of: Callable[["StoredImage"], ImageFacts]) -> "StoredImage":
        """Return the image with its facts, also on its platforms."""
        platforms = tuple(platform.with_facts(facts_of) for platform in self.platforms)
        return replace(self, facts=facts_of(self), platforms=platforms)

    def choose(self, platform: Platform | None) -> "StoredImage | None":
        """Return the image for a node's session.

        Its tags name the manifest of the node's platform. If the platform is unknown, they name an index from
        which the client chooses. Returns None if nothing that the platform can run is stored.
        """
        if platform is None:
            return replace(self, digest=self.index_digest or self.digest)
        stored = {Platform.parse(each.platform): each for each in self.platforms or (self,)}
        found = next((stored[each] for each in platform.runnable() if each in stored), None)
        return replace(found, digest=found.manifest_digest) if found else None

    def of_session(self, digest: Digest) -> "StoredImage | None":
        """Return the image that `choose` returned, or its variant, by its digest."""
        narrowed = (replace(each, digest=each.manifest_digest) for each in self.platforms or (self,))
        for image in (self.choose(None), *narrowed):
            for variant in (image, image.zstd if image else None):
                if variant is not None and variant.digest == digest:
                    return variant
        return None

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

    async def list(
        self, organization: str | None, limit: int, digest: str | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Return the newest images of one or all organizations, as rows with the sizes of their variants.

        Args:
            digest: Only images with this digest, or with a manifest of this digest.
        """
