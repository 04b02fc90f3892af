"""The blobs of all tenants: encrypted, content-addressed, deduplicated."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial

from storage.digest import Digest
from storage.envelope.header import DEFAULT_SEGMENT_LOG2
from storage.errors import (
    BlobDamagedError,
    BlobMissingError,
    BlobNotFoundError,
    DigestMismatchError,
    KeyUnavailableError,
)
from storage.objects import Objects
from storage.ports import BlobBackend, KeyProvider
from storage.read.reader import CHUNK_BYTES, BlobReader
from storage.read.recent import RecentRecords
from storage.read.unlocking import DataKeys, Unlocker
from storage.records import KeyRecord, KeyRecords, Partials
from storage.threads import Threads
from storage.write.ingest import BlobWriter, Hashes, SealedBlob, Sink
from storage.write.publishing import Publisher, object_name
from storage.write.resumption import MIN_BYTES, Resumption


class BlobStore:
    """Ingests, opens and deletes blobs. Owns its worker threads: close it with `aclose`.

    Args:
        backend: Where ciphertext lies.
        keys: Who wraps data keys.
        records: Which tenant can open what.
        name_key: 32 secret bytes that object names are made with.
        threads: Worker threads; by default some more than there are processors.
        segment_log2: Ciphertext bytes of a segment, as a power of two (docs/blob-format.md).
        partials: Where containers that are being written are noted, so that another process can go on with
            what a dead one wrote; without, it starts over.
        partials_from_bytes: Smaller blobs are not worth it.
        now: Monotonic seconds, by which records and keys that were read are forgotten.
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
        partials: Partials | None = None,
        partials_from_bytes: int = MIN_BYTES,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = backend
        self._key_provider = keys
        self._records = records
        self._partials = partials
        self._partials_from_bytes = partials_from_bytes
        self._segment_log2 = segment_log2
        self._name_key = name_key
        self._executor = ThreadPoolExecutor(
            threads or min(32, 4 + 2 * (os.cpu_count() or 1)), thread_name_prefix="storage"
        )
        self._threads = Threads(self._executor)
        self._recent = RecentRecords(now=now)
        data_keys = self._data_keys = DataKeys(keys)
        self._unlocker = Unlocker(backend, data_keys, self._threads, now=now)
        self._publisher = Publisher(
            backend=backend,
            records=records,
            keys=data_keys,
            unlocker=self._unlocker,
            threads=self._threads,
        )

    @property
    def objects(self) -> Objects:
        """The backend's objects, for collection and inspection."""
        return Objects(self._backend, self._threads)

    @asynccontextmanager
    async def ingest(
        self, tenant: str, digest: Digest, size_bytes: int | None = None
    ) -> AsyncIterator[BlobWriter]:
        """Take in one blob. Leaving the context by an error leaves nothing behind.

        A large one goes on where an earlier writer was stopped or died: what is there already counts in the
        writer's `written_bytes`, and the caller writes the rest. Being cancelled leaves it to a later one.

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
        resumption = self._resumption(tenant, digest, size_bytes)
        try:
            if resumption is not None:
                await resumption.take_up(writer)
            yield writer
        except asyncio.CancelledError:
            if resumption is not None and resumption.announced:
                await writer.leave()
                resumption = None
            raise
        finally:
            await writer.aclose()
            if resumption is not None:
                await resumption.end()

    def _resumption(self, tenant: str, digest: Digest, size_bytes: int | None) -> Resumption | None:
        if self._partials is None or size_bytes is None or size_bytes < self._partials_from_bytes:
            return None
        return Resumption(
            self._backend,
            self._partials,
            self._data_keys,
            self._threads,
            tenant=tenant,
            digest=digest,
            size_bytes=size_bytes,
        )

    @asynccontextmanager
    async def derive(
        self, tenant: str, announce: Callable[[Digest], Awaitable[None]], expected_bytes: int | None = None
    ) -> AsyncIterator[BlobWriter]:
        """Take in a blob that is being made, whose digest is known once it is complete: its sha256.

        Leaving the context without `commit` leaves nothing behind.

        Args:
            tenant: Who will be able to open it.
            announce: Awaited with the digest before the blob becomes visible.
            expected_bytes: About how many there will be.
        """

        async def publish(sealed: SealedBlob) -> KeyRecord:
            digest = Digest("sha256", sealed.sha256.hex())
            await announce(digest)
            return await self._publisher.publish(tenant, digest, sealed)

        name_of = partial(object_name, self._name_key, None)
        sink = Sink(self._backend, self._segment_log2, name_of, expected_bytes)
        writer = BlobWriter(sink, None, None, self._threads, publish)
        try:
            yield writer
        finally:
            await writer.aclose()

    async def open(self, tenant: str, digest: Digest) -> BlobReader:
        """Open a blob for reading; the caller closes it.

        A deletion by another process is seen within `storage.read.recent.LIFETIME_S`.

        Raises:
            BlobNotFoundError: This tenant has no such blob.
            BlobDamagedError: Its record or container is damaged, missing, or known to be damaged.
            KeyUnavailableError: Its key cannot be unwrapped.
            StorageUnavailableError: The backend does not answer.
        """
        recent = self._recent.get(tenant, digest)
        if recent is not None:
            try:
                return await self._unlocker.open(recent)
            except (BlobNotFoundError, BlobDamagedError, KeyUnavailableError):
                self._recent.forget(tenant, digest)  # it may have been replaced, rewrapped or removed
        record = await self._records.get(tenant, digest)
        if record is None:
            if await self._records.damaged(tenant, digest):
                raise BlobDamagedError(f"the blob {digest} is known to be damaged")
            raise BlobNotFoundError(f"this tenant has no blob {digest}")
        return await self._open(record)

    def forget(self, tenant: str, digest: Digest) -> None:
        """Ask the catalog again the next time that this blob is opened."""
        self._recent.forget(tenant, digest)

    async def contains(self, tenant: str, digest: Digest) -> bool:
        """Tell whether a tenant has a blob; without touching the backend."""
        return await self._records.get(tenant, digest) is not None

    async def link(self, tenant: str, digest: Digest, size_bytes: int) -> bool:
        """Give a tenant a blob that another one brought. Whether it may have it is the caller's to know.

        Args:
            size_bytes: What the blob has to have.

        Returns:
            False when nobody has it in that size, or it cannot be opened: it has to be ingested.

        Raises:
            KeyUnavailableError, StorageUnavailableError: As for `open`.
        """
        return await self._publisher.link(tenant, digest, size_bytes)

    async def stat(self, tenant: str, digest: Digest) -> KeyRecord | None:
        """Return a tenant's record of a blob, with its sizes; without touching the backend."""
        return await self._records.get(tenant, digest)

    async def delete(self, tenant: str, digest: Digest) -> bool:
        """Take a blob from a tenant, at once; False when there was none.

        The object goes with its last record.
        """
        self._recent.forget(tenant, digest)
        return await self._publisher.delete(tenant, digest)

    async def verify(self, tenant: str, digest: Digest) -> None:
        """Read a whole blob and check every segment and its digest. Raises as `verify_record`."""
        record = await self._records.get(tenant, digest)
        if record is None:
            raise BlobNotFoundError(f"this tenant has no blob {digest}")
        await self.verify_record(record)

    async def verify_record(
        self, record: KeyRecord, pace: Callable[[int], Awaitable[None]] | None = None
    ) -> None:
        """Read a record's whole blob and check every segment and its digest.

        Args:
            record: Of any tenant; its object may be known to be damaged.
            pace: Awaited with the number of bytes that were just read; for reading slowly.

        Raises:
            BlobDamagedError: The blob is not what it should be.
            BlobNotFoundError, KeyUnavailableError, StorageUnavailableError: As for `open`.
        """
        hashes = Hashes(record.digest)
        async with await self._unlocker.open(record) as reader:
            offset = 0
            while offset < reader.size_bytes:
                start, offset = offset, await self._threads.run(_hash_piece, reader, offset, hashes)
                if pace is not None:
                    await pace(offset - start)
        try:
            hashes.check()
        except DigestMismatchError as error:
            raise BlobDamagedError(f"the container of {record.digest} holds another blob") from error

    async def recover(self) -> int:
        """Remove what writers that died were writing, and return how many there were.

        The living are spared, and what an import that has not ended will go on with.

        Objects whose writer died before their key record was there are left to collection
        (`storage.upkeep.gc`), because another server may be about to write that record.
        """
        keep = await self._partials.wanted() if self._partials is not None else ()
        return await self.objects.remove_leftovers(keep)

    async def probe(self) -> None:
        """Prove that backend and key provider answer. Raises what they raise."""
        await self._threads.run(self._backend.probe)
        await self._key_provider.probe()

    async def aclose(self) -> None:
        """Stop the worker threads; only after every reader and writer is closed."""
        await self._unlocker.aclose()
        self._executor.shutdown(wait=False)

    async def open_record(self, record: KeyRecord) -> BlobReader:
        """Open a record's container, though it be known to be damaged; the caller closes it."""
        return await self._unlocker.open(record)

    async def _open(self, record: KeyRecord) -> BlobReader:
        try:
            reader = await self._unlocker.open(record)
        except (BlobNotFoundError, KeyUnavailableError) as error:
            now = await self._records.get(record.tenant, record.digest)
            if now is not None and now != record:
                return await self._unlocker.open(now)
            if now is not None and isinstance(error, BlobNotFoundError):
                raise BlobMissingError(f"the object of blob {record.digest} is not in storage") from error
            raise
        self._recent.put(record)
        return reader


def _hash_piece(reader: BlobReader, offset: int, hashes: Hashes) -> int:
    end = reader.piece_end(offset, CHUNK_BYTES)
    hashes.update(reader.read_at(offset, end - offset))
    return end
