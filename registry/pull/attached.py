"""Reading of an image's attachments."""

from typing import Final

from cachetools import LRUCache

from registry.model.images import ContentKind, StoredImage
from registry.oci.attachments import Attachments
from storage.blobs import BlobStore
from storage.digest import Digest

_NONE: Final = Attachments()


class AttachmentReader:
    """Reads records of attachments, and caches recent ones, which are immutable.

    Args:
        blobs: Blob store.
        size: Maximum number of cached records.
    """

    def __init__(self, blobs: BlobStore, size: int = 64) -> None:
        self._blobs = blobs
        self._recent: LRUCache[tuple[str, Digest], Attachments] = LRUCache(size)

    async def of(self, organization: str, image: StoredImage) -> Attachments:
        """Return an image's newest record of attachments, or an empty one."""
        records = [c.digest for c in image.contents if c.kind is ContentKind.ATTACHMENTS]
        if not records:
            return _NONE
        key = (organization, records[-1])
        known = self._recent.get(key)
        if known is None:
            async with await self._blobs.open(organization, records[-1]) as reader:
                known = Attachments.parse(b"".join([bytes(part) async for part in reader.stream()]))
            self._recent[key] = known
        return known
