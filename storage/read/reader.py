"""One blob open for reading."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from storage.digest import Digest
from storage.envelope.opener import Container
from storage.errors import BlobRangeError
from storage.ports import ObjectReader
from storage.read.buffers import BufferPool
from storage.threads import Threads, settle

CHUNK_BYTES = 1 << 20


class BlobReader:
    """A checked blob. What it returns was authenticated; damage raises BlobDamagedError instead.

    `read_at` and `read_into` block, for callers that are in a worker thread already; `stream` is for
    the event loop.
    """

    def __init__(
        self,
        digest: Digest,
        container: Container,
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
        """Fill `buffer` from `offset`; return how much there was before the end. Blocks.

        Raises:
            BlobRangeError: `offset` lies outside the blob.
            BlobDamagedError: The range is damaged; nothing in `buffer` may be used.
        """
        return self._container.read_into(offset, memoryview(buffer))

    def read_at(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`. Blocks, and holds them in memory.

        Raises:
            BlobRangeError: The range does not lie inside the blob.
            BlobDamagedError: The range is damaged.
        """
        self._end(offset, length)
        buffer = bytearray(length)
        self._container.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def piece_end(self, offset: int, wanted_bytes: int) -> int:
        """Return where a read from `offset` should end so that nothing is decrypted twice.

        About `wanted_bytes` on, but at least one segment or compressed frame (docs/blob-format.md).
        """
        return self._container.piece_end(offset, wanted_bytes)

    async def stream(
        self, start: int = 0, length: int | None = None, chunk_bytes: int = CHUNK_BYTES
    ) -> AsyncGenerator[bytes | memoryview, None]:
        """Yield a range, reading one chunk ahead of its consumer.

        Args:
            start: First byte.
            length: Bytes to yield; up to the end when None.
            chunk_bytes: About how much to yield at a time; at least one segment or frame.

        Yields:
            Views that nothing writes to for as long as anybody holds them; two chunks are in memory at a
            time, and what their consumer keeps.

        Raises:
            BlobRangeError: The range does not lie inside the blob.
            BlobDamagedError: The next chunk is damaged.
        """
        end = self._end(start, self.size_bytes - start if length is None else length)
        ahead = self._start(start, end, chunk_bytes)
        try:
            while ahead is not None:
                await settle(ahead.done)
                ahead.done.result()
                now, start = ahead, start + ahead.length
                self._running.discard(now.done)
                ahead = self._start(start, end, chunk_bytes)
                yield memoryview(now.buffer)[: now.length]
                self._buffers.give_back(now.buffer)
        finally:
            if ahead is not None:
                await settle(ahead.done)
                self._running.discard(ahead.done)

    async def aclose(self) -> None:
        """Wait for reads under way and release the object."""
        try:
            await settle(*self._running)
        finally:
            self.release()

    def release(self) -> None:
        """Release the object; only while no read is under way."""
        self._source.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _end(self, start: int, length: int) -> int:
        if start < 0 or length < 0 or start + length > self.size_bytes:
            raise BlobRangeError(f"{length} bytes from {start} lie outside a blob of {self.size_bytes} bytes")
        return start + length

    def _start(self, start: int, end: int, chunk_bytes: int) -> "_Ahead | None":
        if start == end:
            return None
        length = min(end, self._container.piece_end(start, chunk_bytes)) - start
        buffer = self._buffers.take(length)
        done = self._threads.start(self._container.read_into, start, memoryview(buffer)[:length])
        self._running.add(done)
        return _Ahead(buffer, length, done)


@dataclass(frozen=True, slots=True, eq=False)
class _Ahead:
    """A chunk that is being read; `done` gives its length."""

    buffer: bytearray
    length: int
    done: asyncio.Future[int]
