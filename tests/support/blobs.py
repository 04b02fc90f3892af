"""Short ways to put blobs into a store and to get them out."""

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import _AsyncGeneratorContextManager

from storage.blobs import BlobStore
from storage.digest import Digest
from storage.records import KeyRecord
from storage.write.ingest import BlobWriter


class DeliverableStore(BlobStore):
    """Stores every blob in the format OEB2, so that a test of the format OEB1 also runs over OEB2."""

    def ingest(
        self, tenant: str, digest: Digest, size_bytes: int | None = None, *, deliverable: bool = True
    ) -> _AsyncGeneratorContextManager[BlobWriter]:
        return super().ingest(tenant, digest, size_bytes, deliverable=deliverable)

    def derive(
        self,
        tenant: str,
        announce: Callable[[Digest], Awaitable[None]],
        expected_bytes: int | None = None,
        *,
        deliverable: bool = True,
    ) -> _AsyncGeneratorContextManager[BlobWriter]:
        return super().derive(tenant, announce, expected_bytes, deliverable=deliverable)


FORMATS: dict[str, type[BlobStore]] = {"oeb1": BlobStore, "oeb2": DeliverableStore}


async def put(store: BlobStore, tenant: str, data: bytes, piece: int = 100_000) -> KeyRecord:
    """Ingest a blob in pieces."""
    async with store.ingest(tenant, Digest.of(data), len(data)) as writer:
        for at in range(0, len(data), piece):
            await writer.write(data[at : at + piece])
        return await writer.commit()


async def get(
    store: BlobStore, tenant: str, digest: Digest, start: int = 0, length: int | None = None
) -> bytes:
    """Read a range through the stream."""
    async with await store.open(tenant, digest) as reader:
        return b"".join([bytes(chunk) async for chunk in reader.stream(start, length, 1 << 16)])


def sha512(data: bytes) -> Digest:
    """The other algorithm's digest."""
    return Digest("sha512", hashlib.sha512(data).hexdigest())
