"""Manifests and indexes at hand: small, asked for at every pull, and never changing."""

from collections import OrderedDict
from typing import Final

from storage.blobs import BlobStore
from storage.digest import Digest

KEPT_BYTES: Final = 32 << 20
LARGEST_KEPT_BYTES: Final = 1 << 20


class Documents:
    """Reads small documents from storage and keeps the recent ones in memory, in the clear.

    Whether a session may have them is asked of the ledger at every request, before they are read here
    (docs/adr/0111).

    Args:
        blobs: Where they are.
        kept_bytes: How much to keep.
    """

    def __init__(self, blobs: BlobStore, kept_bytes: int = KEPT_BYTES) -> None:
        self._blobs = blobs
        self._limit = kept_bytes
        self._kept: OrderedDict[tuple[str, Digest], bytes] = OrderedDict()
        self._size = 0

    async def read(self, tenant: str, digest: Digest) -> bytes:
        """Return a tenant's document, whole.

        Raises:
            StorageError: As `BlobStore.open` and `BlobReader.stream` do.
        """
        key = (tenant, digest)
        if (known := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return known
        async with await self._blobs.open(tenant, digest) as reader:
            document = b"".join([bytes(part) async for part in reader.stream()])
        self._keep(key, document)
        return document

    def _keep(self, key: tuple[str, Digest], document: bytes) -> None:
        if len(document) > min(LARGEST_KEPT_BYTES, self._limit) or key in self._kept:
            return
        self._kept[key] = document
        self._size += len(document)
        while self._size > self._limit:
            _, dropped = self._kept.popitem(last=False)
            self._size -= len(dropped)
