"""Reads the record of what is attached to an image."""

from typing import Final

from cachetools import LRUCache

from registry.model.images import ContentKind, StoredImage
from registry.oci.attachments import Attachments
from storage.blobs import BlobStore
from storage.digest import Digest

_NONE: Final = Attachments()


class AttachmentReader:
    """Looks attachments up; keeps the recent records, which never change.

    Args:
        blobs: Where records lie.
        size: How many to keep at hand.
    """

    def __init__(self, blobs: BlobStore, size: int = 64) -> None:
        self._blobs = blobs
        self._recent: LRUCache[tuple[str, Digest], Attachments] = LRUCache(size)

    async def of(self, organization: str, image: StoredImage) -> Attachments:
        """Return what is attached to an image: its newest record, or an empty one."""
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
