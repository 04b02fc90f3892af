"""From what a node asks for to what it may have.

A session is for one image. A tag names that image or another version, a digest names one of its
documents or blobs or something else; whatever is not of the session's image does not exist for it.
"""

import re
from collections import OrderedDict

from registry.ports import ContentKind, GroupCatalog, ImageContent, StoredImage
from storage.digest import Digest
from storage.errors import DigestError

_VERSION_TAG = re.compile(r"v([1-9][0-9]{0,8})", re.ASCII)
_DOCUMENTS = (ContentKind.INDEX, ContentKind.MANIFEST)


class ImageResolver:
    """Looks up images and what is in them; keeps the recent ones, which never change.

    Args:
        size: How many images to keep at hand.
    """

    def __init__(self, catalog: GroupCatalog, size: int = 1024) -> None:
        self._catalog = catalog
        self._size = size
        self._recent: OrderedDict[tuple[str, str], StoredImage] = OrderedDict()

    async def image(self, repository: str, digest: str) -> StoredImage | None:
        """Return a repository's image by the digest that the session is for."""
        known = self._recent.get((repository, digest))
        if known is not None:
            self._recent.move_to_end((repository, digest))
            return known
        image = await self._catalog.image_by_digest(repository, digest)
        if image is not None:
            self._recent[repository, digest] = image
            while len(self._recent) > self._size:
                self._recent.popitem(last=False)
        return image

    async def document(self, repository: str, image: StoredImage, reference: str) -> ImageContent | None:
        """Return the index or manifest that a tag or digest names within the image, or None.

        `latest` is the session's own image: a version that became ready since the token was minted
        must not break the pull that is under way.
        """
        if reference == "latest":
            return image.content(image.digest)
        if match := _VERSION_TAG.fullmatch(reference):
            named = await self._catalog.version_digest(repository, int(match[1]))
            return image.content(image.digest) if named == image.digest else None
        content = _content(image, reference)
        return content if content is not None and content.kind in _DOCUMENTS else None

    def blob(self, image: StoredImage, reference: str) -> ImageContent | None:
        """Return the image's blob that a digest names, or None. Documents are blobs too."""
        return _content(image, reference)


def _content(image: StoredImage, reference: str) -> ImageContent | None:
    try:
        return image.content(Digest.parse(reference))
    except DigestError:
        return None
