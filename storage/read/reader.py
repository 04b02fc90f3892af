"""Reader of one blob."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from storage.delivery_key import DeliveryKey
from storage.digest import Digest, Hashes
from storage.envelope.oeb2.opener import Container as DeliverableContainer
from storage.errors import BlobDamagedError, BlobRangeError, DigestMismatchError, NotDeliverableError
from storage.ports import ObjectReader
from storage.read.buffers import BufferPool
from storage.threads import Threads, wait_uncancelled

CHUNK_BYTES = 1 << 20


class Content(Protocol):
    """Content of a reader."""

    @property
    def size_bytes(self) -> int:
        """Length of the content."""

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` from `offset`. Returns the number of bytes, fewer at the end."""

    def piece_end(self, offset: int, wanted_bytes: int) -> int:
        """Return the end of a piece from `offset` that is efficient to read."""


@dataclass(frozen=True, slots=True)
class Ciphertext:
    """Ciphertext of a container, as stored."""

    source: ObjectReader

    @property
    def size_bytes(self) -> int:
        """Length of the ciphertext."""
        return self.source.size_bytes

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` from `offset`. Returns the number of bytes, fewer at the end.

        Raises:
            BlobRangeError: `offset` is outside the ciphertext.
            BlobDamagedError: The object is shorter than when it was opened.
        """
        if not 0 <= offset <= self.size_bytes:
            raise BlobRangeError(f"offset {offset} is outside the {self.size_bytes} bytes of ciphertext")
        buffer = buffer[: self.size_bytes - offset]
        if self.source.read_into(offset, buffer) != len(buffer):
            raise BlobDamagedError("the object is shorter than when it was opened")
        return len(buffer)

    def piece_end(self, offset: int, wanted_bytes: int) -> int:
        """Return the end of a piece of `wanted_bytes`, or the end of the ciphertext."""
        return min(offset + max(1, wanted_bytes), self.size_bytes)


class BlobReader:
    """Reader of a verified blob. All returned bytes are authenticated; damage raises BlobDamagedError.

    `read_at` and `read_into` block and are for worker threads; `stream` is for the event loop.
    """

    def __init__(
        self,
        digest: Digest,
        container: Content,
        source: ObjectReader,
        threads: Threads,
        buffers: BufferPool,
    ) -> None:
        self.digest = digest
        self._container = container
        self._source = source
        self._threads = threads
        self._buffers = buffers
        self._running: set[asyncio.Future[int]] = set()

    @property
    def size_bytes(self) -> int:
        """Length of the blob."""
        return self._container.size_bytes

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> int:
        """Fill `buffer` from `offset`. Returns the number of bytes, fewer at the end of the blob. Blocks.

        Raises:
            BlobRangeError: `offset` is outside the blob.
            BlobDamagedError: The range is damaged. The content of `buffer` must not be used.
        """
        return self._container.read_into(offset, memoryview(buffer))

    def read_at(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`. Blocks.

        Raises:
            BlobRangeError: The range is not inside the blob.
            BlobDamagedError: The range is damaged.
        """
        self._end(offset, length)
        buffer = bytearray(length)
        self._container.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def piece_end(self, offset: int, wanted_bytes: int) -> int:
        """Return the end of a read from `offset` such that nothing is decrypted twice.

        The piece has about `wanted_bytes`, but at least one segment or frame (docs/blob-format.md).
        """
        return self._container.piece_end(offset, wanted_bytes)

    def delivery_key(self) -> DeliveryKey:
        """Return the secrets with which a node decrypts the ciphertext. Raises NotDeliverableError."""
        if not isinstance(self._container, DeliverableContainer):
            raise NotDeliverableError(self.digest)
        return self._container.delivery_key()

    async def verify(self, pace: Callable[[int], Awaitable[None]] | None = None) -> None:
        """Read and verify all of the blob, and of its ciphertext if that is deliverable.

        Args:
            pace: Awaited with the number of bytes after each read, to limit the read rate.

        Raises:
            BlobDamagedError: The content is damaged or does not match a digest.
        """
        verification = Verification(self.digest, self._container)
        while verification.offset < self.size_bytes:
            count = await self._threads.run(verification.step)
            if pace is not None:
                await pace(count)
        verification.finish()

    async def stream(
        self, start: int = 0, length: int | None = None, chunk_bytes: int = CHUNK_BYTES
    ) -> AsyncGenerator[bytes | memoryview, None]:
        """Yield a range, reading one chunk ahead of its consumer.

        Args:
            start: First byte.
            length: Bytes to yield; None reads to the end.
            chunk_bytes: Approximate size of a chunk; at least one segment or frame.

        Yields:
            Views that stay unchanged as long as they are referenced. Two chunks are in memory, plus those
            that the consumer keeps.

        Raises:
            BlobRangeError: The range is not inside the blob.
            BlobDamagedError: The next chunk is damaged.
        """
        end = self._end(start, self.size_bytes - start if length is None else length)
        ahead = self._start(start, end, chunk_bytes)
        try:
            while ahead is not None:
                await wait_uncancelled(ahead.done)
                ahead.done.result()
                now, start = ahead, start + ahead.length
                self._running.discard(now.done)
                ahead = self._start(start, end, chunk_bytes)
                yield memoryview(now.buffer)[: now.length]
                self._buffers.give_back(now.buffer)
        finally:
            if ahead is not None:
                await wait_uncancelled(ahead.done)
                self._running.discard(ahead.done)

    def fileno(self) -> int | None:
        """Return the descriptor of a local file with exactly these bytes; None if there is none."""
        return None

    async def aclose(self) -> None:
        """Wait for running reads, and release the object."""
        try:
            await wait_uncancelled(*self._running)
        finally:
            self.release()

    def release(self) -> None:
        """Release the object. Call only while no read is running."""
        self._source.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _end(self, start: int, length: int) -> int:
        if start < 0 or length < 0 or start + length > self.size_bytes:
            raise BlobRangeError(
                f"{length} bytes from {start} are outside the blob of {self.size_bytes} bytes"
            )
        return start + length

    def _start(self, start: int, end: int, chunk_bytes: int) -> "_PendingRead | None":
        if start == end:
            return None
        length = min(end, self._container.piece_end(start, chunk_bytes)) - start
        buffer = self._buffers.take(length)
        done = self._threads.start(self._container.read_into, start, memoryview(buffer)[:length])
        self._running.add(done)
        return _PendingRead(buffer, length, done)


class CiphertextReader(BlobReader):
    """Reader of a container's ciphertext, which is not authenticated: its recipient does that."""

    def fileno(self) -> int | None:
        """Return the descriptor of a local file, for `os.sendfile`, until `aclose`; None if it is not one."""
        return self._source.fileno()


class Verification:
    """Verification of a whole blob, in steps."""

    def __init__(self, digest: Digest, container: Content) -> None:
        self._digest = digest
        self._container = container
        self._hashes = Hashes(digest)
        self._ciphertext = (
            container.ciphertext_hashes() if isinstance(container, DeliverableContainer) else None
        )
        self._buffer = memoryview(bytearray())
        self.offset = 0

    def step(self) -> int:
        """Verify the next piece. Returns its length. Blocks."""
        length = self._container.piece_end(self.offset, CHUNK_BYTES) - self.offset
        if len(self._buffer) < length:
            self._buffer = memoryview(bytearray(length))
        piece = self._buffer[:length]
        if isinstance(self._container, DeliverableContainer):
            self._container.read_into(self.offset, piece, self._ciphertext)
        else:
            self._container.read_into(self.offset, piece)
        self._hashes.update(piece)
        self.offset += length
        return length

    def finish(self) -> None:
        """Compare the digests. Raises BlobDamagedError."""
        try:
            self._hashes.check()
        except DigestMismatchError as error:
            raise BlobDamagedError(f"the container of {self._digest} holds another blob") from error
        if self._ciphertext is not None:
            self._ciphertext.check()


@dataclass(frozen=True, slots=True, eq=False)
class _PendingRead:
    """Chunk that is being read. `done` returns its length."""

    buffer: bytearray
    length: int
    done: asyncio.Future[int]
