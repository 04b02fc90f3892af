"""Cache of decrypted manifests and indexes, which are small, immutable and read at every pull."""

import time
from collections import OrderedDict
from typing import Final

from storage.blobs import BlobStore
from storage.digest import Digest
from storage.read.recent import LIFETIME_S

KEPT_BYTES: Final = 32 << 20
LARGEST_KEPT_BYTES: Final = 1 << 20


class Documents:
    """Reads small documents from storage, and caches recent ones decrypted in memory.

    Every request asks the ledger for authorization before it reads here (docs/adr/0032). Every few seconds,
    the cache checks in the catalog that the tenant can still open a document, so that deleted and shredded
    documents disappear from the cache.

    Args:
        blobs: Blob store.
        kept_bytes: Maximum size of the cache.
    """

    def __init__(self, blobs: BlobStore, kept_bytes: int = KEPT_BYTES) -> None:
        self._blobs = blobs
        self._limit = kept_bytes
        self._kept: OrderedDict[tuple[str, Digest], bytes] = OrderedDict()
        self._sure_until: dict[tuple[str, Digest], float] = {}
        self._size = 0

    async def read(self, tenant: str, digest: Digest) -> bytes:
        """Return a tenant's document.

        Raises:
            StorageError: As for `BlobStore.open` and `BlobReader.stream`.
        """
        key = (tenant, digest)
        if (known := self._kept.get(key)) is not None:
            if await self._still_has(key):
                self._kept.move_to_end(key)
                return known
            self._drop(key)
        async with await self._blobs.open(tenant, digest) as reader:
            document = b"".join([bytes(part) async for part in reader.stream()])
        self._keep(key, document)
        return document

    def _keep(self, key: tuple[str, Digest], document: bytes) -> None:
        if len(document) > min(LARGEST_KEPT_BYTES, self._limit) or key in self._kept:
            return
        self._kept[key] = document
        self._sure_until[key] = time.monotonic() + LIFETIME_S
        self._size += len(document)
        while self._size > self._limit:
            self._drop(next(iter(self._kept)))

    async def _still_has(self, key: tuple[str, Digest]) -> bool:
        """Return whether the tenant can still open a cached document. Asks the catalog every few seconds."""
        if self._sure_until.get(key, 0.0) > time.monotonic():
            return True
        if not await self._blobs.contains(*key):
            return False
        self._sure_until[key] = time.monotonic() + LIFETIME_S
        return key in self._kept

    def _drop(self, key: tuple[str, Digest]) -> None:
        if (dropped := self._kept.pop(key, None)) is not None:
            self._size -= len(dropped)
            del self._sure_until[key]
