"""Opening of containers by key record, with a cache of ciphers."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from cachetools import TTLCache

from storage.delivery_key import DeliveryKey
from storage.envelope import oeb1, oeb2
from storage.envelope.buffers import Scratch, read_exactly
from storage.envelope.key import DataKey, wrap_aad
from storage.errors import BlobDamagedError, KeyUnavailableError, NotDeliverableError
from storage.ports import BlobBackend, KeyProvider, ObjectReader
from storage.read.buffers import BufferPool
from storage.read.reader import CHUNK_BYTES, BlobReader, Ciphertext, CiphertextReader, Content
from storage.records import KeyRecord
from storage.threads import Threads

Unlocked = oeb1.Unlocked | oeb2.Unlocked

_KEY_TIMEOUT_S = 10.0


def record_aad(record: KeyRecord, kek_id: str) -> bytes:
    """Return the associated data of a record's data key under a key-encryption key."""
    ciphertext = str(record.ciphertext or "") if record.deliverable else None
    return wrap_aad(record.file_id, str(record.digest), record.tenant, kek_id, ciphertext)


class DataKeys:
    """Wraps and unwraps data keys, bound to their key record (docs/blob-format.md, "key record")."""

    def __init__(self, keys: KeyProvider, timeout_s: float = _KEY_TIMEOUT_S) -> None:
        self._keys = keys
        self._timeout_s = timeout_s

    async def wrap(self, record: KeyRecord, key: DataKey) -> KeyRecord:
        """Wrap `key` with the current key of the record's tenant. Returns the record with the wrapped key."""
        try:
            async with asyncio.timeout(self._timeout_s):
                kek_id = await self._keys.current_id(record.tenant)
                wrapped = await self._keys.wrap(kek_id, key.reveal(), record_aad(record, kek_id))
                return replace(record, kek_id=kek_id, wrapped_dek=wrapped)
        except TimeoutError:
            raise KeyUnavailableError("the key provider did not answer in time: check its state") from None

    async def unwrap(self, record: KeyRecord) -> DataKey:
        """Unwrap a record's data key. Raises BlobDamagedError: the record was changed."""
        aad = record_aad(record, record.kek_id)
        try:
            async with asyncio.timeout(self._timeout_s):
                secret = await self._keys.unwrap(record.kek_id, record.wrapped_dek, aad)
        except TimeoutError:
            raise KeyUnavailableError("the key provider did not answer in time: check its state") from None
        try:
            return DataKey(secret)
        except ValueError:
            raise BlobDamagedError("a wrapped key has the wrong length") from None


class Unlocker:
    """Opens containers, and caches their ciphers for some minutes. Concurrent calls share one unwrap.

    The cache key is the whole record, so that a changed record is unwrapped again.

    Args:
        capacity: Maximum number of cached ciphers, about 3 KiB each.
        lifetime_s: Seconds until a data key is unwrapped again, so that a destroyed key takes effect.
    """

    def __init__(
        self,
        backend: BlobBackend,
        keys: DataKeys,
        threads: Threads,
        *,
        capacity: int = 1024,
        lifetime_s: float = 300.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = backend
        self._keys = keys
        self._threads = threads
        self._scratch = Scratch()
        self._buffers = BufferPool(CHUNK_BYTES)
        self._capacity = capacity
        self._lifetime_s = lifetime_s
        self._now = now
        self._kept: OrderedDict[KeyRecord, tuple[float, Unlocked]] = OrderedDict()
        self._delivery_keys: TTLCache[KeyRecord, DeliveryKey] = TTLCache(capacity, lifetime_s, timer=now)
        self._running: dict[KeyRecord, asyncio.Task[Unlocked]] = {}

    async def open(self, record: KeyRecord) -> BlobReader:
        """Open a record's container (docs/blob-format.md, "reading").

        Raises:
            BlobNotFoundError: The container is not in storage.
            BlobDamagedError: Record or container is damaged.
            KeyUnavailableError: The data key cannot be unwrapped.
        """
        unlocked = await self._unlock(record)
        return await self._threads.acquire(lambda: self._open(record, unlocked), BlobReader.release)

    async def open_ciphertext(self, record: KeyRecord) -> CiphertextReader:
        """Open the ciphertext of a deliverable record. Needs no key, and authenticates nothing.

        Raises:
            BlobNotFoundError: The ciphertext is not in storage.
            BlobDamagedError: It has another length than the blob.
        """
        return await self._threads.acquire(lambda: self._open_ciphertext(record), CiphertextReader.release)

    async def delivery_key(self, record: KeyRecord) -> DeliveryKey:
        """Return the secrets with which a node decrypts the ciphertext; cached as long as ciphers are.

        All nodes of a fleet need the same ones when they start an image.

        Raises:
            NotDeliverableError: The container is not deliverable.
            BlobNotFoundError, BlobDamagedError, KeyUnavailableError: As for `open`.
        """
        kept = self._delivery_keys.get(record)
        if kept is None:
            async with await self.open(record) as reader:
                kept = self._delivery_keys[record] = reader.delivery_key()
        return kept

    def forget(self, record: KeyRecord) -> None:
        """Remove a record's ciphers and keys from the caches."""
        self._kept.pop(record, None)
        self._delivery_keys.pop(record, None)

    async def aclose(self) -> None:
        """Wait for running unwraps, and clear the cache."""
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        self._kept.clear()
        self._delivery_keys.clear()

    async def _unlock(self, record: KeyRecord) -> Unlocked:
        kept = self._kept.get(record)
        if kept is not None and kept[0] > self._now():
            self._kept.move_to_end(record)
            return kept[1]
        task = self._running.get(record)
        if task is None:
            task = self._running[record] = asyncio.create_task(self._unwrap(record))
            task.add_done_callback(lambda done: self._keep(record, done))
        # Shield the shared task, so that the cancellation of one caller does not fail the others.
        return await asyncio.shield(task)

    async def _unwrap(self, record: KeyRecord) -> Unlocked:
        key = await self._keys.unwrap(record)
        unlocked: Unlocked
        if record.sidecar_name is None:
            head = await self._threads.run(self._read_head, record.object_name, oeb1.HEAD_BYTES)
            unlocked = oeb1.Unlocked.unlock(key, head)
        else:
            head = await self._threads.run(self._read_head, record.sidecar_name, oeb2.HEADER_BYTES)
            unlocked = oeb2.Unlocked.unlock(key, head)
        if unlocked.header.file_id != record.file_id:
            raise BlobDamagedError("the container does not match its key record")
        return unlocked

    def _open(self, record: KeyRecord, unlocked: Unlocked) -> BlobReader:
        source = self._backend.open(record.object_name)
        try:
            container = self._container(record, unlocked, source)
        except BaseException:
            source.close()
            raise
        return BlobReader(record.digest, container, source, self._threads, self._buffers)

    def _container(self, record: KeyRecord, unlocked: Unlocked, source: ObjectReader) -> Content:
        if isinstance(unlocked, oeb1.Unlocked):
            return oeb1.Container(source, unlocked, record.digest, self._scratch)
        return oeb2.Container(
            source,
            self._read_sidecar(record),
            unlocked,
            digest=record.digest,
            ciphertext=record.ciphertext,
            scratch=self._scratch,
        )

    def _open_ciphertext(self, record: KeyRecord) -> CiphertextReader:
        if record.ciphertext is None:
            raise NotDeliverableError(record.digest)
        source = self._backend.open(record.object_name)
        if source.size_bytes != record.size_bytes:
            source.close()
            raise BlobDamagedError("the object's length is not the blob's")
        return CiphertextReader(record.ciphertext, Ciphertext(source), source, self._threads, self._buffers)

    def _read_head(self, object_name: str, size_bytes: int) -> bytes:
        source = self._backend.open(object_name)
        try:
            return read_exactly(source, 0, size_bytes)
        finally:
            source.close()

    def _read_sidecar(self, record: KeyRecord) -> bytes:
        if record.sidecar_name is None:
            raise BlobDamagedError("the key record has no sidecar")
        source = self._backend.open(record.sidecar_name)
        try:
            size_bytes = record.objects[record.sidecar_name]
            if source.size_bytes != size_bytes:  # checked before memory is allocated
                raise BlobDamagedError("the sidecar has another length than its key record says")
            return read_exactly(source, 0, size_bytes)
        finally:
            source.close()

    def _keep(self, record: KeyRecord, done: asyncio.Task[Unlocked]) -> None:
        del self._running[record]
        if done.cancelled() or done.exception() is not None:
            return
        self._kept[record] = (self._now() + self._lifetime_s, done.result())
        self._kept.move_to_end(record)
        while len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
