"""Cache of decrypted manifests and indexes, which are small, immutable and read at every pull."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from cachetools import LRUCache

from storage.blobs import BlobStore
from storage.digest import Digest
from storage.read.recent import LIFETIME_S

KEPT_BYTES: Final = 32 << 20
LARGEST_KEPT_BYTES: Final = 4 << 20


@dataclass(slots=True)
class _Kept:
    document: bytes
    sure_until_s: float

    def __len__(self) -> int:
        return len(self.document)


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
        self._loading: dict[tuple[str, Digest], asyncio.Task[bytes]] = {}
        self._kept: LRUCache[tuple[str, Digest], _Kept] = LRUCache(kept_bytes, len)

    async def read(self, tenant: str, digest: Digest) -> bytes:
        """Return a tenant's document.

        Raises:
            StorageError: As for `BlobStore.open` and `BlobReader.stream`.
        """
        key = (tenant, digest)
        if (kept := self._kept.get(key)) is not None:
            if await self._still_has(key, kept):
                return kept.document
            self._kept.pop(key, None)
        return await asyncio.shield(self._loading.get(key) or self._start_loading(key))

    def _start_loading(self, key: tuple[str, Digest]) -> asyncio.Task[bytes]:
        """Load a document once for all requests that wait for it; they share its bytes."""
        loading = self._loading[key] = asyncio.create_task(self._load(key))

        def loaded(task: asyncio.Task[bytes]) -> None:
            del self._loading[key]
            if not task.cancelled():
                task.exception()  # retrieved also if every request was cancelled meanwhile

        loading.add_done_callback(loaded)
        return loading

    async def _load(self, key: tuple[str, Digest]) -> bytes:
        async with await self._blobs.open(*key) as reader:
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
