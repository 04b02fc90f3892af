"""Ingest of one blob: hashes, seals and stores it while it arrives."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from storage.digest import Digest, Hashes
from storage.envelope.buffers import Data
from storage.errors import DigestMismatchError
from storage.records import KeyRecord
from storage.threads import Threads, wait_uncancelled
from storage.write.sinks import BATCH_BYTES, BegunBlob, SealedBlob, Sink

_BATCHES = 4


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Buffer that one thread hashes while another seals it, and a third stores the result."""

    buffer: memoryview
    futures: tuple[asyncio.Future[None], ...]


class BlobWriter:
    """Writer of one blob, which is invisible until `commit`.

    Batches are hashed in one thread, sealed in another and stored in a third while the next batch fills. At
    most `_BATCHES` batches are in memory, as plaintext and as ciphertext.

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
        self._storing = threads.serial_executor()
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
        await self._stop(self._sink.close)

    async def leave(self) -> None:
        """Stop, and keep the sealed part for a later writer (`storage.write.resumption`)."""
        await self._stop(self._sink.leave)

    async def _stop(self, end: Callable[[], None]) -> None:
        self._closed = True
        try:
            await wait_uncancelled(*(future for batch in self._running for future in batch.futures))
        finally:
            self._running.clear()
            await self._threads.run(end)

    async def _flush(self) -> None:
        if len(self._running) + 1 == _BATCHES:
            await self._reclaim()
        batch = self._filling[: self._fill]
        hashed = self._hashing.start(partial(self._hashes.update, batch))
        sealed = self._sealing.start(partial(self._sink.feed, batch))
        store = self._sink.store
        stored = (self._storing.start(store, after=sealed),) if store else ()
        self._running.append(_Batch(self._filling, (hashed, sealed, *stored)))
        self._filling = self._spare.pop() if self._spare else memoryview(bytearray(BATCH_BYTES))
        self._fill = 0

    async def _reclaim(self) -> None:
        oldest = self._running[0]
        await wait_uncancelled(*oldest.futures)
        self._running.popleft()
        self._spare.append(oldest.buffer)
        for future in oldest.futures:
            future.result()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the writer is closed")
