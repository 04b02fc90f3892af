"""From what a node asks for to what it may have.

A session is for one image. A tag names that image or another version, a digest names one of its
documents or blobs or something else; whatever is not of the session's image does not exist for it.
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
from storage.digest import Digest

_VERSION_TAG = re.compile(r"v([1-9][0-9]{0,8})", re.ASCII)
_DOCUMENTS: Final = (ContentKind.INDEX, ContentKind.MANIFEST, ContentKind.ATTACHMENT)


class ImageResolver:
    """Looks up images and what is in them; keeps the recent ones, which never change.

    Args:
        size: How many images to keep at hand.
    """

    def __init__(self, catalog: GroupCatalog, size: int = 1024) -> None:
        self._catalog = catalog
        self._recent: LRUCache[tuple[str, str], StoredImage] = LRUCache(size)

    async def image(self, repository: str, digest: str) -> StoredImage | None:
        """Return a repository's image by the digest that the session is for."""
        known = self._recent.get((repository, digest))
        if known is not None:
            return known
        image = await self._catalog.image_by_digest(repository, digest)
        if image is not None:
            self._recent[repository, digest] = image
        return image

    async def document(self, repository: str, image: StoredImage, reference: str) -> ImageContent | None:
        """Return the index or manifest that a tag or digest names within the image, or None.

        `latest` is the session's own image: a version that became ready since the token was minted
        must not break the pull that is under way.

        Raises:
            DigestError: It is meant for a digest and cannot be one.
        """
        if ":" in reference:
            content = image.content(Digest.parse(reference))
            return content if content is not None and content.kind in _DOCUMENTS else None
        if reference == "latest":
            return image.content(image.digest)
        if match := _VERSION_TAG.fullmatch(reference):
            named = await self._catalog.version_digests(repository, int(match[1]))
            return image.content(image.digest) if image.digest in named else None
        return None

    def blob(self, image: StoredImage, reference: str) -> ImageContent | None:
        """Return the image's blob that a digest names, or None. Documents are blobs too.

        Raises:
            DigestError: It cannot be a digest.
        """
        content = image.content(Digest.parse(reference))
        return None if content is None or content.kind is ContentKind.ATTACHMENTS else content


def acceptable(
    image: StoredImage, named: ImageContent, reference: str, lines: Iterable[str]
) -> ImageContent | None:
    """Choose what a client takes of a document that it named (distribution-spec, "Pulling manifests").

    A digest names one document. A tag of an index names, for a client that takes no indexes, the
    manifest in it that was imported.

    Args:
        image: The session's.
        named: What the reference names.
        reference: A tag or a digest.
        lines: The values of the client's `Accept` headers.

    Returns:
        The document to send, or None: the client takes nothing that the reference names.
    """
    lines = tuple(lines)
    if accepts(lines, named.media_type):
        return named
    if named.media_type in INDEXES and is_tag(reference):
        manifest = image.content(image.manifest_digest)
        if manifest is not None and accepts(lines, manifest.media_type):
            return manifest
    return None
