"""Manifests and indexes at hand: small, asked for at every pull, and never changing."""

import time
from dataclasses import dataclass
from typing import Final

from cachetools import LRUCache

from storage.blobs import BlobStore
from storage.digest import Digest
from storage.read.recent import LIFETIME_S

KEPT_BYTES: Final = 32 << 20
LARGEST_KEPT_BYTES: Final = 1 << 20


@dataclass(slots=True)
class _Kept:
    document: bytes
    sure_until_s: float

    def __len__(self) -> int:
        return len(self.document)


class Documents:
    """Reads small documents from storage and keeps the recent ones in memory, in the clear.

    Whether a session may have them is asked of the ledger at every request, before they are read here
    (docs/adr/0032). That the tenant can still open them is asked of the catalog every few seconds, so that
    what was shredded or taken away is gone from here too.

    Args:
        blobs: Where they are.
        kept_bytes: How much to keep.
    """

    def __init__(self, blobs: BlobStore, kept_bytes: int = KEPT_BYTES) -> None:
        self._blobs = blobs
        self._kept: LRUCache[tuple[str, Digest], _Kept] = LRUCache(kept_bytes, len)

    async def read(self, tenant: str, digest: Digest) -> bytes:
        """Return a tenant's document, whole.

        Raises:
            StorageError: As `BlobStore.open` and `BlobReader.stream` do.
        """
        key = (tenant, digest)
        if (kept := self._kept.get(key)) is not None:
            if await self._still_has(key, kept):
                return kept.document
            self._kept.pop(key, None)
        async with await self._blobs.open(tenant, digest) as reader:
            document = b"".join([bytes(part) async for part in reader.stream()])
        if len(document) <= min(LARGEST_KEPT_BYTES, self._kept.maxsize):
            self._kept[key] = _Kept(document, time.monotonic() + LIFETIME_S)
        return document

    async def _still_has(self, key: tuple[str, Digest], kept: _Kept) -> bool:
        """Ask the catalog, once in a while, whether the tenant can still open what is kept in the clear."""
        if kept.sure_until_s <= time.monotonic():
            if not await self._blobs.contains(*key):
                return False
            kept.sure_until_s = time.monotonic() + LIFETIME_S
        return True
