"""Manifests and indexes at hand: small, asked for at every pull, and never changing."""

import time
from collections import OrderedDict
from typing import Final

from storage.blobs import BlobStore
from storage.digest import Digest
from storage.read.recent import LIFETIME_S

KEPT_BYTES: Final = 32 << 20
LARGEST_KEPT_BYTES: Final = 1 << 20


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
        self._limit = kept_bytes
        self._kept: OrderedDict[tuple[str, Digest], bytes] = OrderedDict()
        self._sure_until: dict[tuple[str, Digest], float] = {}
        self._size = 0

    async def read(self, tenant: str, digest: Digest) -> bytes:
        """Return a tenant's document, whole.

        Raises:
            StorageError: As `BlobStore.open` and `BlobReader.stream` do.
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
        """Ask the catalog, once in a while, whether the tenant can still open what is kept in the clear."""
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
