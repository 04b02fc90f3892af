"""Ingest of one blob: hashes, compresses, seals and stores it while it arrives."""

import asyncio
import hashlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from storage.digest import Digest, Hasher
from storage.envelope.buffers import Data
from storage.envelope.key import DataKey
from storage.envelope.oeb1.frames import SAMPLE_BYTES, choose_codec
from storage.envelope.oeb1.header import Codec
from storage.envelope.oeb1.sealer import Sealer
from storage.errors import DigestMismatchError
from storage.ports import BlobBackend, ObjectWriter
from storage.records import KeyRecord
from storage.threads import Threads, wait_uncancelled

BATCH_BYTES = 1 << 20
_BATCHES = 4


@dataclass(frozen=True, slots=True)
class BegunBlob:
    """Unfinished container that can be resumed."""

    key: DataKey = field(repr=False)
    file_id: bytes
    object_name: str


@dataclass(frozen=True, slots=True)
class SealedBlob:
    """Complete container that is not visible yet."""

    key: DataKey = field(repr=False)
    file_id: bytes
    sha256: bytes
    size_bytes: int
    stored_bytes: int
    object_name: str
    object: ObjectWriter


class Sink:
    """Seals a blob into a new object. Methods block. For one thread at a time.

    The object is created, and its codec chosen, after the first `SAMPLE_BYTES`.

    Args:
        name_of: Returns the object's name for the container's file id.
        expected_bytes: Length of the plaintext, if known.
    """

    def __init__(
        self,
        backend: BlobBackend,
        segment_log2: int,
        name_of: Callable[[bytes], str],
        expected_bytes: int | None = None,
    ) -> None:
        self._backend = backend
        self._name_of = name_of
        self._expected_bytes = expected_bytes
        self._segment_log2 = segment_log2
        self._key = DataKey.generate()
        self._sample = bytearray()
        self._sealer: Sealer | None = None
        self._object: ObjectWriter | None = None
        self._size_bytes = 0
        self.begun: BegunBlob | None = None

    def feed(self, data: Data) -> None:
        """Process more plaintext."""
        self._size_bytes += len(data)
        if self._sealer is not None and self._object is not None:
            self._object.write(self._sealer.feed(data))
            return
        self._sample += data
        if len(self._sample) >= SAMPLE_BYTES:
            self._begin()

    def finish(self, sha256: bytes) -> SealedBlob:
        """Write the container's end."""
        sealer, target = self._begin()
        target.write(sealer.finish(sha256))
        file_id = sealer.header.file_id
        name = self._name_of(file_id)
        return SealedBlob(
            key=self._key,
            file_id=file_id,
            sha256=sha256,
            size_bytes=self._size_bytes,
            stored_bytes=sealer.container_bytes,
            object_name=name,
            object=target,
        )

    def close(self) -> None:
        """Discard the object, unless it was committed."""
        if self._object is not None:
            self._object.abort()

    def leave(self) -> None:
        """Keep the unfinished object, so that a later writer can resume it."""
        if self._object is not None:
            self._object.leave()

    def _begin(self) -> tuple[Sealer, ObjectWriter]:
        if self._sealer is None or self._object is None:
            codec = choose_codec(memoryview(self._sample)[:SAMPLE_BYTES])
            self._sealer = Sealer(self._key, codec=codec, segment_log2=self._segment_log2)
            file_id = self._sealer.header.file_id
            name = self._name_of(file_id)
            self._object = self._backend.create(name, self._expected_bytes)
            self._object.write(self._sealer.head)
            for start in range(0, len(self._sample), BATCH_BYTES):
                self._object.write(self._sealer.feed(self._sample[start : start + BATCH_BYTES]))
            self._sample = bytearray()
            if codec is Codec.NONE:  # a compressed container cannot be read without its index
                self.begun = BegunBlob(self._key, file_id, name)
        return self._sealer, self._object


class Hashes:
    """Hashes of the plaintext: the expected digest's, if any, and sha256 for the container's trailer."""

    def __init__(self, digest: Digest | None) -> None:
        self._digest = digest
        self._sha256: Hasher = hashlib.sha256()
        other = digest is not None and digest.algorithm != "sha256"
        self._promised = digest.hasher() if digest is not None and other else self._sha256

    def update(self, data: Data) -> None:
        """Process more plaintext."""
        self._promised.update(data)
        if self._sha256 is not self._promised:
            self._sha256.update(data)

    def check(self) -> bytes:
        """Return the sha256. Raises DigestMismatchError: the plaintext does not match the digest."""
        if self._digest is not None and self._promised.hexdigest() != self._digest.hex:
            raise DigestMismatchError(f"the content does not match the digest {self._digest}")
        return bytes.fromhex(self._sha256.hexdigest())


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Buffer that one thread hashes while another seals it."""

    buffer: memoryview
    hashed: asyncio.Future[None]
    sealed: asyncio.Future[None]


class BlobWriter:
    """Writer of one blob, which is invisible until `commit`.

    Batches are hashed in one thread and sealed in another while the next batch fills. At most `_BATCHES`
    batches are in memory.

    Attributes:
        written_bytes: Bytes written so far, including resumed ones.
        resumed_bytes: Bytes taken over from an earlier writer.
        announce: Awaited once, when the container can be resumed by a later writer.
    """

    def __init__(
        self,
        sink: Sink,
        digest: Digest | None,
        size_bytes: int | None,
        threads: Threads,
        publish: Callable[[SealedBlob], Awaitable[KeyRecord]],
    ) -> None:
        self._sink = sink
        self._hashes = Hashes(digest)
        self._expected_bytes = size_bytes
        self._threads = threads
        self._publish = publish
        self._hashing = threads.serial_executor()
        self._sealing = threads.serial_executor()
        self._filling = memoryview(bytearray(BATCH_BYTES))
        self._fill = 0
        self._spare: list[memoryview] = []
        self._running: deque[_Batch] = deque()
        self._closed = False
        self.written_bytes = 0
        self.resumed_bytes = 0
        self.announce: Callable[[BegunBlob], Awaitable[None]] | None = None

    async def write(self, data: Data) -> None:
        """Append a copy of any number of bytes.

        Raises:
            DigestMismatchError: There are more bytes than expected.
            StorageFullError, StorageUnavailableError: An earlier batch could not be stored.
        """
        self._check_open()
        view = memoryview(data).cast("B")
        self.written_bytes += len(view)
        if self._expected_bytes is not None and self.written_bytes > self._expected_bytes:
            raise DigestMismatchError(f"the content is longer than the expected {self._expected_bytes} bytes")
        while view:
            part = view[: BATCH_BYTES - self._fill]
            self._filling[self._fill : self._fill + len(part)] = part
            self._fill += len(part)
            view = view[len(part) :]
            if self._fill == BATCH_BYTES:
                await self._flush()
        if self.announce is not None and self._sink.begun is not None:
            announce, self.announce = self.announce, None
            await announce(self._sink.begun)

    async def commit(self) -> KeyRecord:
        """Verify the content, make the blob durable and visible, and return its key record.

        Raises:
            DigestMismatchError: Digest or length do not match.
            StorageFullError, StorageUnavailableError, KeyUnavailableError: The blob did not become visible.
        """
        self._check_open()
        await self._flush()
        while self._running:
            await self._reclaim()
        if self._expected_bytes not in (None, self.written_bytes):
            raise DigestMismatchError(
                f"the content has {self.written_bytes} of the expected {self._expected_bytes} bytes"
            )
        sealed = await self._threads.run(self._sink.finish, self._hashes.check())
        record = await self._publish(sealed)
        await self.aclose()
        return record

    async def aclose(self) -> None:
        """Wait for all threads, and discard the blob unless it was committed."""
        self._closed = True
        try:
            await wait_uncancelled(
                *(future for batch in self._running for future in (batch.hashed, batch.sealed))
            )
        finally:
            self._running.clear()
            await self._threads.run(self._sink.close)

    async def leave(self) -> None:
        """Stop, and keep the sealed part for a later writer (`storage.write.resumption`)."""
        self._closed = True
        try:
            await wait_uncancelled(
                *(future for batch in self._running for future in (batch.hashed, batch.sealed))
            )
        finally:
            self._running.clear()
            await self._threads.run(self._sink.leave)

    async def _flush(self) -> None:
        if len(self._running) + 1 == _BATCHES:
            await self._reclaim()
        batch = self._filling[: self._fill]
        self._running.append(
            _Batch(
                self._filling,
                self._hashing.start(partial(self._hashes.update, batch)),
                self._sealing.start(partial(self._sink.feed, batch)),
            )
        )
        self._filling = self._spare.pop() if self._spare else memoryview(bytearray(BATCH_BYTES))
        self._fill = 0

    async def _reclaim(self) -> None:
        oldest = self._running[0]
        await wait_uncancelled(oldest.hashed, oldest.sealed)
        self._running.popleft()
        self._spare.append(oldest.buffer)
        for future in (oldest.hashed, oldest.sealed):
            future.result()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the writer is closed")
