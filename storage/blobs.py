"""The blobs of all tenants: encrypted, content-addressed, deduplicated."""

import os
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice

from storage.digest import Digest
from storage.envelope.header import DEFAULT_SEGMENT_LOG2
from storage.errors import BlobDamagedError, BlobNotFoundError, DigestMismatchError
from storage.ingest import BlobWriter, Hashes, Sink
from storage.ports import BlobBackend, KeyProvider, KeyRecord, KeyRecords
from storage.publishing import Publisher, object_name
from storage.reading import CHUNK_BYTES, BlobReader
from storage.threads import Threads
from storage.unlocking import DataKeys, Unlocker

_LISTING_PIECE = 1000


@dataclass(frozen=True, slots=True)
class Recovered:
    """What start-up removed.

    Attributes:
        temporaries: Objects that were being written when their writer died.
        orphans: Objects whose key record was never committed, or is gone.
    """

    temporaries: int
    orphans: int


class BlobStore:
    """Ingests, opens and deletes blobs. Owns its worker threads: close it with `aclose`.

    Args:
        backend: Where ciphertext lies.
        keys: Who wraps data keys.
        records: Which tenant can open what.
        name_key: 32 secret bytes that object names are made with.
        threads: Worker threads; by default some more than there are processors.
        segment_log2: Ciphertext bytes of a segment, as a power of two (docs/blob-format.md).
    """

    def __init__(
        self,
        backend: BlobBackend,
        keys: KeyProvider,
        records: KeyRecords,
        name_key: bytes,
        *,
        threads: int | None = None,
        segment_log2: int = DEFAULT_SEGMENT_LOG2,
    ) -> None:
        self._backend = backend
        self._key_provider = keys
        self._records = records
        self._segment_log2 = segment_log2
        self._name_key = name_key
        self._executor = ThreadPoolExecutor(
            threads or min(32, 4 + 2 * (os.cpu_count() or 1)), thread_name_prefix="storage"
        )
        self._threads = Threads(self._executor)
        data_keys = DataKeys(keys)
        self._unlocker = Unlocker(backend, data_keys, self._threads)
        self._publisher = Publisher(
            backend=backend,
            records=records,
            keys=data_keys,
            unlocker=self._unlocker,
            threads=self._threads,
        )

    @asynccontextmanager
    async def ingest(
        self, tenant: str, digest: Digest, size_bytes: int | None = None
    ) -> AsyncIterator[BlobWriter]:
        """Take in one blob. Leaving the context without `commit` leaves nothing behind.

        Args:
            tenant: Who will be able to open it.
            digest: What the bytes have to be.
            size_bytes: How many there have to be, where that is known.
        """
        writer = BlobWriter(
            Sink(self._backend, self._segment_log2, partial(object_name, self._name_key, digest), size_bytes),
            digest,
            size_bytes,
            self._threads,
            partial(self._publisher.publish, tenant, digest),
        )
        try:
            yield writer
        finally:
            await writer.aclose()

    async def open(self, tenant: str, digest: Digest) -> BlobReader:
        """Open a blob for reading; the caller closes it.

        Raises:
            BlobNotFoundError: This tenant has no such blob.
            BlobDamagedError: Its record or container is damaged.
            KeyUnavailableError: Its key cannot be unwrapped.
            StorageUnavailableError: The backend does not answer.
        """
        record = await self._records.get(tenant, digest)
        if record is None:
            raise BlobNotFoundError(f"this tenant has no blob {digest}")
        return await self._unlocker.open(record)

    async def contains(self, tenant: str, digest: Digest) -> bool:
        """Tell whether a tenant has a blob; without touching the backend."""
        return await self._records.get(tenant, digest) is not None

    async def stat(self, tenant: str, digest: Digest) -> KeyRecord | None:
        """Return a tenant's record of a blob, with its sizes; without touching the backend."""
        return await self._records.get(tenant, digest)

    async def delete(self, tenant: str, digest: Digest) -> bool:
        """Take a blob from a tenant, at once; False when there was none.

        The object goes with its last record.
        """
        return await self._publisher.delete(tenant, digest)

    async def verify(self, tenant: str, digest: Digest) -> None:
        """Read a whole blob and check every segment and its digest.

        Raises:
            BlobDamagedError: The blob is not what it should be.
            BlobNotFoundError, KeyUnavailableError, StorageUnavailableError: As for `open`.
        """
        hashes = Hashes(digest)
        async with await self.open(tenant, digest) as reader:
            offset = 0
            while offset < reader.size_bytes:
                offset = await self._threads.run(_hash_piece, reader, offset, hashes)
        try:
            hashes.check()
        except DigestMismatchError as error:
            raise BlobDamagedError(f"the container of {digest} holds another blob") from error

    async def recover(self, *, alone: bool = True) -> Recovered:
        """Remove what a crash left behind, at start-up.

        Args:
            alone: Whether nobody else writes to the backend meanwhile. Where others may, an object without
                a record may be about to get one, and is left to the garbage collection.
        """
        temporaries = await self._threads.run(self._backend.recover)
        if not alone:
            return Recovered(temporaries, 0)
        names, orphans = self._backend.names(), 0
        while piece := await self._threads.run(_take, names):
            for name in piece:
                if await self._records.uses(name) == 0:
                    orphans += await self._threads.run(self._backend.delete, name)
        return Recovered(temporaries, orphans)

    async def probe(self) -> None:
        """Prove that backend and key provider answer. Raises what they raise."""
        await self._threads.run(self._backend.probe)
        await self._key_provider.probe()

    async def aclose(self) -> None:
        """Stop the worker threads; only after every reader and writer is closed."""
        await self._unlocker.aclose()
        self._executor.shutdown(wait=False)


def _take(names: Iterator[str]) -> list[str]:
    return list(islice(names, _LISTING_PIECE))


def _hash_piece(reader: BlobReader, offset: int, hashes: Hashes) -> int:
    end = reader.piece_end(offset, CHUNK_BYTES)
    hashes.update(reader.read_at(offset, end - offset))
    return end
