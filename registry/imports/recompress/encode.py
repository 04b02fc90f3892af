"""Recompression of one layer to zstd: read from storage, decompress, verify, compress in frames, store."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

from registry.imports.recompress.decode import Packing
from registry.imports.recompress.sandboxed import decode_sandboxed
from registry.imports.recompress.unpack import Allowance, BlobSource, Unpacker
from registry.model.images import ContentKind, ImageContent
from registry.oci.documents import Descriptor
from registry.oci.seekable import FRAME_BYTES, SeekTable, compress_frame
from registry.oci.variant import OCI_ZSTD_LAYER
from storage.blobs import BlobStore
from storage.digest import Digest
from storage.records import KeyRecord
from storage.threads import Threads, wait_uncancelled
from storage.write.ingest import BlobWriter

TRIAL_BYTES: Final = 32 << 20

Announce = Callable[[Digest], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class EncodedLayer:
    """The result of processing a layer.

    Attributes:
        verified: Whether the layer matches its diff_id; False if its compression format is not supported.
        content: The layer in zstd; None if that does not save enough.
    """

    verified: bool
    content: ImageContent | None = None


class LayerEncoder:
    """Verifies layers and recompresses them to zstd.

    Args:
        store: Holds the layers and the results.
        threads: Run the decompression and compression.
        ahead: Maximum number of frames that are compressed concurrently.
        level: Compression level of zstd.
        min_gain: Minimum fraction of a layer's size that recompression must save.
    """

    def __init__(
        self, store: BlobStore, threads: Threads, *, ahead: int, level: int, min_gain: float
    ) -> None:
        self._store = store
        self._threads = threads
        self._ahead = ahead
        self._level = level
        self._min_gain = min_gain

    async def encode(
        self,
        tenant: str,
        layer: Descriptor,
        diff_id: Digest,
        *,
        allowance: Allowance,
        announce: Announce,
        progress: Callable[[int], None],
        deliverable: bool = False,
    ) -> EncodedLayer:
        """Decompress a stored layer, verify it, and store it in zstd if that saves enough.

        Layers that already use zstd are only verified.

        Args:
            diff_id: Expected digest of the decompressed layer.
            allowance: Limit on the decompressed bytes.
            announce: Called with the digest of the zstd layer before it becomes visible.
            progress: Called with the number of bytes of the layer that have been read.
            deliverable: Whether to store the result as ciphertext that can be delivered as it is.

        Raises:
            PullFailedError: The layer does not match its diff_id, or is a decompression bomb.
            StorageError: Storage failed.
        """
        async with await self._store.open(tenant, layer.digest) as reader, AsyncExitStack() as stack:
            source = BlobSource(reader)
            unpacker = await self._threads.run(
                partial(
                    Unpacker,
                    source,
                    layer.digest,
                    layer.size_bytes,
                    diff_id,
                    allowance,
                    decode=decode_sandboxed,
                )
            )
            stack.push_async_callback(self._threads.run, unpacker.close)
            if unpacker.packing is Packing.OTHER:
                return EncodedLayer(verified=False)
            output: _Output | None = None
            if unpacker.packing is not Packing.ZSTD:
                writer = await stack.enter_async_context(
                    self._store.derive(tenant, announce, layer.size_bytes, deliverable=deliverable)
                )
                output = _Output(writer, self._threads, self._ahead, self._level)
                stack.push_async_callback(output.wait_uncancelled)
            await self._pump(unpacker, output, layer.size_bytes, progress)
            unpacker.check()
            if output is None or not await output.finish(self._most(layer.size_bytes)):
                return EncodedLayer(verified=True)
            record = await output.commit()
        content = ImageContent(record.digest, ContentKind.LAYER, OCI_ZSTD_LAYER, record.size_bytes, diff_id)
        return EncodedLayer(verified=True, content=content)

    async def _pump(
        self, unpacker: Unpacker, output: "_Output | None", size_bytes: int, progress: Callable[[int], None]
    ) -> None:
        while piece := await self._threads.run(unpacker.read, FRAME_BYTES):
            progress(unpacker.packed_bytes)
            if output is None or output.abandoned:
                continue
            await output.add(piece, unpacker.packed_bytes)
            tried = output.tried_bytes
            hopeless = tried >= TRIAL_BYTES and output.written_bytes > tried * (1 - self._min_gain / 2)
            if hopeless or output.written_bytes > self._most(size_bytes):
                await output.abandon()

    def _most(self, size_bytes: int) -> int:
        return int(size_bytes * (1 - self._min_gain))


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """A frame that is being compressed, and how much of the layer had been read by then."""

    packed: asyncio.Future[bytes]
    length: int
    tried_bytes: int


class _Output:
    """Compresses frames concurrently and writes them in order.

    Attributes:
        tried_bytes: How many bytes of the original layer the written frames cover.
    """

    def __init__(self, writer: BlobWriter, threads: Threads, ahead: int, level: int) -> None:
        self._writer = writer
        self._threads = threads
        self._ahead = ahead
        self._level = level
        self._table = SeekTable()
        self._running: deque[_Frame] = deque()
        self.abandoned = False
        self.tried_bytes = 0

    @property
    def written_bytes(self) -> int:
        return self._writer.written_bytes

    async def add(self, piece: bytes, tried_bytes: int) -> None:
        packed = self._threads.start(compress_frame, piece, self._level)
        self._running.append(_Frame(packed, len(piece), tried_bytes))
        while len(self._running) > self._ahead:
            await self._write_oldest()

    async def finish(self, most_bytes: int) -> bool:
        """Write the remaining frames. Returns False if the result does not save enough."""
        while self._running and not self.abandoned:
            await self._write_oldest()
        if self.abandoned or self.written_bytes + self._table.size_bytes > most_bytes:
            return False
        await self._writer.write(self._table.dump())
        return True

    async def commit(self) -> KeyRecord:
        return await self._writer.commit()

    async def abandon(self) -> None:
        """Discard the written frames; the rest of the layer is only verified."""
        self.abandoned = True
        await self.wait_uncancelled()
        await self._writer.aclose()

    async def wait_uncancelled(self) -> None:
        """Wait for the running threads."""
        try:
            await wait_uncancelled(*(frame.packed for frame in self._running))
        finally:
            self._running.clear()

    async def _write_oldest(self) -> None:
        frame = self._running[0]
        await wait_uncancelled(frame.packed)
        self._running.popleft()
        packed = frame.packed.result()
        self._table.add(len(packed), frame.length)
        self.tried_bytes = frame.tried_bytes
        await self._writer.write(packed)
