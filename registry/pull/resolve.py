"""Resolution of tags and digests within a session's image.

A session is for one image. Tags, documents and blobs outside this image do not exist for the session.
"""

import re
from collections.abc import Iterable
from typing import Final

from cachetools import LRUCache

from registry.model.groups import GroupCatalog
from registry.model.images import ContentKind, ImageContent, StoredImage
from registry.oci.mediatypes import INDEXES
from registry.oci.reference import is_tag
from registry.pull.negotiation import accepts
from registry.pull.session_image import SessionImage
from storage.digest import Digest

_VERSION_TAG = re.compile(r"v([1-9][0-9]{0,8})", re.ASCII)
_DOCUMENTS: Final = (ContentKind.INDEX, ContentKind.MANIFEST, ContentKind.ATTACHMENT)
_ENCRYPTED_DOCUMENTS: Final = (ContentKind.INDEX, ContentKind.MANIFEST)


class ImageResolver:
    """Resolves tags and digests, and caches recent images, which are immutable.

    Args:
        size: Maximum number of cached images.
    """

    def __init__(self, catalog: GroupCatalog, size: int = 1024) -> None:
        self._catalog = catalog
        self._recent: LRUCache[tuple[str, str], StoredImage] = LRUCache(size)

    async def image(self, repository: str, digest: str) -> StoredImage | None:
        """Return a repository's image by the digest of the session, or None."""
        known = self._recent.get((repository, digest))
        if known is not None:
            return known
        image = await self._catalog.image_by_digest(repository, digest)
        if image is not None:
            self._recent[repository, digest] = image
        return image

    async def document(self, repository: str, image: SessionImage, reference: str) -> ImageContent | None:
        """Return the index or manifest that a tag or digest names in the image, or None.

        `latest` names the session's image, so that a newer version does not break a running pull.

        Raises:
            DigestError: The reference contains an invalid digest.
        """
        visible = image.visible
        if ":" in reference:
            content = visible.content(Digest.parse(reference))
            return content if content is not None and content.kind in _DOCUMENTS else None
        if reference == "latest":
            return visible.content(visible.digest)
        if match := _VERSION_TAG.fullmatch(reference):
            named = await self._catalog.version_digests(repository, int(match[1]))
            return visible.content(visible.digest) if image.stored.digest in named else None
        return None

    def blob(self, image: SessionImage, reference: str) -> ImageContent | None:
        """Return the image's blob with a digest, or None. Stored documents are also blobs.

        In an encrypted session, the manifests and indexes before encryption are blobs and no manifests: a
        client gets them only if it knows what they are (docs/encrypted-delivery.md, "Plaintext documents").

        Raises:
            DigestError: The digest is invalid.
        """
        digest = Digest.parse(reference)
        content = image.visible.content(digest)
        if content is None and image.encrypted:
            stored = image.stored.content(digest)
            return stored if stored is not None and stored.kind in _ENCRYPTED_DOCUMENTS else None
        if content is None or content.kind is ContentKind.ATTACHMENTS or content.digest in image.documents:
            return None
        return content


def acceptable(
    image: StoredImage, named: ImageContent, reference: str, lines: Iterable[str]
) -> ImageContent | None:
    """Choose a document that the client accepts (distribution-spec, "Pulling manifests").

    A digest names one document. If a tag names an index and the client does not accept indexes, the
    imported manifest is chosen, of several platforms the first.

    Args:
        image: Image of the session.
        named: Document that the reference names.
        reference: Tag or digest.
        lines: Values of the client's `Accept` headers.

    Returns:
        The document to send, or None if the client accepts none.
    """
    lines = tuple(lines)
    if accepts(lines, named.media_type):
        return named
    if named.media_type in INDEXES and is_tag(reference):
        manifest = image.content(image.manifest_digest)
        if manifest is not None and accepts(lines, manifest.media_type):
            return manifest
    return None
