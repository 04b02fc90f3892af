"""Blob store: the encrypted, content-addressed, deduplicated blobs of all tenants."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from storage.delivery_key import DeliveryKey
from storage.digest import Digest
from storage.envelope.oeb1.header import DEFAULT_SEGMENT_LOG2
from storage.errors import (
    BlobDamagedError,
    BlobMissingError,
    BlobNotFoundError,
    KeyUnavailableError,
    NotDeliverableError,
)
from storage.objects import Objects
from storage.ports import BlobBackend, KeyProvider
from storage.read.reader import BlobReader, CiphertextReader
from storage.read.recent import RecentRecords
from storage.read.unlocking import DataKeys, Unlocker
from storage.records import KeyRecord, KeyRecords, Partials
from storage.threads import Threads
from storage.write.ingest import BlobWriter
from storage.write.naming import ObjectNaming
from storage.write.publishing import Publisher
from storage.write.resumption import MIN_BYTES, Resumption
from storage.write.sinks import CompactSink, DeliverableSink, SealedBlob, Sink

R = TypeVar("R")

_KEYS_AT_ONCE = 16


class BlobStore:
    """Stores, opens and deletes blobs. Owns its worker threads; close it with `aclose`.

    Args:
        backend: Object storage for the ciphertext.
        keys: Wraps and unwraps data keys.
        records: Key records, which say which tenant can open which blob.
        name_key: Secret of 32 bytes from which object names are derived.
        threads: Number of worker threads; by default somewhat more than processors.
        segment_log2: Ciphertext bytes of a segment, as a power of two (docs/blob-format.md).
        partials: Records of unfinished containers, so that another process can resume an interrupted
            ingest. Without it, an interrupted ingest starts from zero.
        partials_from_bytes: Minimum size of a blob for which an unfinished container is recorded.
        now: Monotonic seconds, by which cached records and keys expire.
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
        """The backend's objects, for garbage collection and inspection."""
        return Objects(self._backend, self._threads)

    @asynccontextmanager
    async def ingest(
        self, tenant: str, digest: Digest, size_bytes: int | None = None, *, deliverable: bool = False
    ) -> AsyncIterator[BlobWriter]:
        """Store one blob. An error in the context discards it.

        A large blob resumes where an earlier writer stopped: its bytes count in the writer's `written_bytes`,
        and the caller writes the rest. After a cancellation, a later call can resume.

        Args:
            tenant: Tenant that can open the blob.
            digest: Expected digest.
            size_bytes: Expected size, if known.
            deliverable: Store it such that nodes can get its ciphertext (docs/blob-format-oeb2.md).
        """
        writer = BlobWriter(
            self._sink(digest, size_bytes, deliverable=deliverable),
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

    async def put(self, tenant: str, digest: Digest, data: bytes) -> None:
        """Store a small blob in one call, unless the tenant already has it. Raises the errors of `ingest`."""
        if not await self.contains(tenant, digest):
            async with self.ingest(tenant, digest, len(data)) as writer:
                await writer.write(data)
                await writer.commit()

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
            segment_log2=self._segment_log2,
        )

    def _sink(self, digest: Digest | None, expected_bytes: int | None, *, deliverable: bool) -> Sink:
        naming = ObjectNaming(self._name_key, digest)
        kind = DeliverableSink if deliverable else CompactSink
        return kind(self._backend, self._segment_log2, naming, expected_bytes)

    @asynccontextmanager
    async def derive(
        self,
        tenant: str,
        announce: Callable[[Digest], Awaitable[None]],
        expected_bytes: int | None = None,
        *,
        deliverable: bool = False,
    ) -> AsyncIterator[BlobWriter]:
        """Store a blob whose digest (sha256) is known only when it is complete.

        Without `commit`, the blob is discarded at the end of the context.

        Args:
            tenant: Tenant that can open the blob.
            announce: Awaited with the digest before the blob becomes visible.
            expected_bytes: Approximate size.
            deliverable: As for `ingest`.
        """

        async def publish(sealed: SealedBlob) -> KeyRecord:
            digest = Digest("sha256", sealed.sha256.hex())
            await announce(digest)
            return await self._publisher.publish(tenant, digest, sealed)

        sink = self._sink(None, expected_bytes, deliverable=deliverable)
        writer = BlobWriter(sink, None, None, self._threads, publish)
        try:
            yield writer
        finally:
            await writer.aclose()

    async def open(self, tenant: str, digest: Digest) -> BlobReader:
        """Open a blob for reading. The caller closes it.

        A deletion by another process takes effect within `storage.read.recent.LIFETIME_S`.

        Raises:
            BlobNotFoundError: This tenant has no such blob.
            BlobDamagedError: Its record or container is damaged or missing, or it is in quarantine.
            KeyUnavailableError: Its key cannot be unwrapped.
            StorageUnavailableError: The backend does not answer.
        """
        return await self._open(tenant, digest, self._unlocker.open)

    async def open_ciphertext(self, tenant: str, digest: Digest, ciphertext: Digest) -> CiphertextReader:
        """Open the ciphertext of a deliverable blob, as nodes get it. The caller closes it.

        The bytes are not authenticated: the recipient verifies their digest. No key is needed.

        Args:
            ciphertext: Digest of the ciphertext, which may be one that was replaced (`rekey`).

        Raises:
            BlobNotFoundError: This tenant has no such blob with this ciphertext.
            BlobDamagedError, StorageUnavailableError: As for `open`.
        """
        record = await self._with_ciphertext(tenant, digest, ciphertext)
        try:
            return await self._unlocker.open_ciphertext(record)
        except BlobNotFoundError as error:
            self._recent.forget(tenant, digest)
            if await self._with_ciphertext(tenant, digest, ciphertext) == record:
                raise BlobMissingError(f"the object of blob {digest} is not in storage") from error
            raise

    async def delivery_key(self, tenant: str, digest: Digest) -> DeliveryKey:
        """Return the secrets with which a node decrypts the ciphertext of a deliverable blob.

        Raises:
            NotDeliverableError: The blob is not deliverable.
            BlobNotFoundError, BlobDamagedError, KeyUnavailableError, StorageUnavailableError: As for `open`.
        """
        return await self._open(tenant, digest, self._unlocker.delivery_key)

    async def delivery_keys(
        self, tenant: str, digests: Sequence[Digest], at: float
    ) -> Mapping[Digest, DeliveryKey]:
        """Return the secrets with which a node decrypts the ciphertexts of deliverable blobs.

        Args:
            at: Time in seconds since 1970, in the last 24 hours. A blob that was rekeyed since has its keys
                of that time.

        Raises:
            NotDeliverableError: A blob is not deliverable.
            BlobNotFoundError, BlobDamagedError, KeyUnavailableError, StorageUnavailableError: As for `open`.
        """
        records = await self._records.as_of(tenant, digests, at)  # the same in every process
        slots = asyncio.Semaphore(_KEYS_AT_ONCE)

        async def key(digest: Digest) -> DeliveryKey:
            async with slots:
                record = records.get(digest) or await self._current(tenant, digest)
                try:
                    return await self._unlocker.delivery_key(record)
                except (BlobNotFoundError, KeyUnavailableError) as error:
                    now = (await self._records.as_of(tenant, [digest], at)).get(digest)
                    if now is not None and now != record:  # rewrapped meanwhile
                        return await self._unlocker.delivery_key(now)
                    if now is not None and isinstance(error, BlobNotFoundError):
                        raise BlobMissingError(f"the object of blob {digest} is not in storage") from error
                    raise

        return dict(zip(digests, await asyncio.gather(*map(key, digests)), strict=True))

    def forget(self, tenant: str, digest: Digest) -> None:
        """Drop a cached key record, so that the next `open` reads it from the catalog."""
        self._recent.forget(tenant, digest)

    async def contains(self, tenant: str, digest: Digest) -> bool:
        """Return whether a tenant has a blob. Reads only the catalog."""
        return await self._records.get(tenant, digest) is not None

    async def deliverable(self, tenant: str, digest: Digest) -> bool:
        """Return whether a tenant has a blob whose ciphertext can be delivered. Reads only the catalog."""
        record = await self._records.get(tenant, digest)
        return record is not None and record.deliverable

    async def ciphertext_path(self, tenant: str, digest: Digest, ciphertext: Digest) -> str:
        """Return the path of a deliverable blob's ciphertext in the backend (`BlobBackend.path`).

        Raises:
            BlobNotFoundError: The tenant has no such blob with this ciphertext.
        """
        return self._backend.path(await self._ciphertext_name(tenant, digest, ciphertext))

    async def ciphertext_url(
        self, tenant: str, digest: Digest, ciphertext: Digest, *, lifetime_s: float
    ) -> str | None:
        """Return a URL by which anyone can read the ciphertext for a while; None if the backend has none.

        Raises:
            BlobNotFoundError: The tenant has no such blob with this ciphertext.
        """
        name = await self._ciphertext_name(tenant, digest, ciphertext)
        return await self._threads.run(self._backend.signed_url, name, lifetime_s)

    async def _ciphertext_name(self, tenant: str, digest: Digest, ciphertext: Digest) -> str:
        return (await self._with_ciphertext(tenant, digest, ciphertext)).object_name

    async def _with_ciphertext(self, tenant: str, digest: Digest, ciphertext: Digest) -> KeyRecord:
        """Return the current record, or the replaced one, that has this ciphertext."""
        recent = self._recent.get(tenant, digest)
        if recent is not None and recent.ciphertext == ciphertext:
            return recent
        current = await self._current(tenant, digest)
        if current.ciphertext == ciphertext:
            self._recent.put(current)
            return current
        retired = await self._records.retired(tenant, digest, ciphertext)
        if retired is None:
            raise BlobNotFoundError(f"this tenant has no ciphertext {ciphertext}")
        return retired

    async def link(self, tenant: str, digest: Digest, size_bytes: int, *, deliverable: bool = False) -> bool:
        """Give a tenant access to a blob that another tenant stored. The caller must check authorization.

        Args:
            tenant: Tenant that gets access.
            digest: Digest of the blob.
            size_bytes: Expected size.
            deliverable: Link only a deliverable blob; it replaces one of the tenant that is not.

        Returns:
            False if no tenant has a readable blob of this size: ingest it instead.

        Raises:
            KeyUnavailableError, StorageUnavailableError: As for `open`.
        """
        self._recent.forget(tenant, digest)
        return await self._publisher.link(tenant, digest, size_bytes, deliverable=deliverable)

    async def stat(self, tenant: str, digest: Digest) -> KeyRecord | None:
        """Return a tenant's key record of a blob, with its sizes, or None. Reads only the catalog."""
        return await self._records.get(tenant, digest)

    async def delete(self, tenant: str, digest: Digest) -> bool:
        """Delete a tenant's blob with immediate effect. Returns False if there is no such blob.

        The object is removed with its last key record.
        """
        self._recent.forget(tenant, digest)
        return await self._publisher.delete(tenant, digest)

    async def rekey(self, tenant: str, digest: Digest) -> KeyRecord:
        """Seal a blob with new keys into a new deliverable container, which replaces the old one.

        The record that was replaced stays for a day, for sessions that began before.

        Raises:
            DigestMismatchError: The stored content does not match the digest.
            BlobNotFoundError, BlobDamagedError, KeyUnavailableError, StorageFullError,
            StorageUnavailableError: The old container stays.
        """
        async with await self.open(tenant, digest) as reader:
            sink = self._sink(digest, reader.size_bytes, deliverable=True)
            publish = partial(self._publisher.replace_container, tenant, digest)
            writer = BlobWriter(sink, digest, reader.size_bytes, self._threads, publish)
            try:
                async for chunk in reader.stream():
                    await writer.write(chunk)
                return await writer.commit()
            finally:
                await writer.aclose()
                self._recent.forget(tenant, digest)

    async def verify(self, tenant: str, digest: Digest) -> None:
        """Read a whole blob and verify every segment and the digest. Raises the errors of `verify_record`."""
        record = await self._records.get(tenant, digest)
        if record is None:
            raise BlobNotFoundError(f"this tenant has no blob {digest}")
        await self.verify_record(record)

    async def verify_record(
        self, record: KeyRecord, pace: Callable[[int], Awaitable[None]] | None = None
    ) -> None:
        """Read the whole blob of a key record and verify every segment and the digest.

        Args:
            record: Key record of any tenant; its object may be in quarantine.
            pace: Awaited with the number of bytes after each read, to limit the read rate.

        Raises:
            BlobDamagedError: The content is damaged or does not match the digest.
            BlobNotFoundError, KeyUnavailableError, StorageUnavailableError: As for `open`.
        """
        async with await self._unlocker.open(record) as reader:
            await reader.verify(pace)

    async def recover(self) -> int:
        """Remove unfinished objects of dead writers. Returns their number.

        Keeps objects of running writers, and those that a pending import can resume.

        Complete objects without a key record are left to garbage collection (`storage.upkeep.gc`), because
        another server may be about to write the record.
        """
        keep = await self._partials.wanted() if self._partials is not None else ()
        return await self.objects.remove_leftovers(keep)

    async def probe(self) -> None:
        """Check that backend and key provider answer, without writing. Raises their errors."""
        await self._threads.run(self._backend.probe)
        await self._key_provider.probe()

    async def probe_writing(self) -> None:
        """Check that objects can be written. Raises the backend's errors."""
        await self._threads.run(self._backend.probe_writing)

    async def aclose(self) -> None:
        """Stop the worker threads. Close all readers and writers first."""
        await self._unlocker.aclose()
        self._executor.shutdown(wait=False)

    async def open_record(self, record: KeyRecord) -> BlobReader:
        """Open the container of a key record, also if it is in quarantine. The caller closes it."""
        return await self._unlocker.open(record)

    async def _open(self, tenant: str, digest: Digest, opened: Callable[[KeyRecord], Awaitable[R]]) -> R:
        recent = self._recent.get(tenant, digest)
        if recent is not None:
            try:
                return await opened(recent)
            except (BlobNotFoundError, BlobDamagedError, KeyUnavailableError, NotDeliverableError):
                self._recent.forget(tenant, digest)  # the record may have been replaced, rewrapped or removed
        return await self._open_current(await self._current(tenant, digest), opened)

    async def _current(self, tenant: str, digest: Digest) -> KeyRecord:
        record = await self._records.get(tenant, digest)
        if record is None:
            if await self._records.damaged(tenant, digest):
                raise BlobDamagedError(f"the blob {digest} is known to be damaged")
            raise BlobNotFoundError(f"this tenant has no blob {digest}")
        return record

    async def _open_current(self, record: KeyRecord, opened: Callable[[KeyRecord], Awaitable[R]]) -> R:
        try:
            reader = await opened(record)
        except (BlobNotFoundError, KeyUnavailableError) as error:
            now = await self._records.get(record.tenant, record.digest)
            if now is not None and now != record:
                return await opened(now)
            if now is not None and isinstance(error, BlobNotFoundError):
                raise BlobMissingError(f"the object of blob {record.digest} is not in storage") from error
            raise
        self._recent.put(record)
        return reader
