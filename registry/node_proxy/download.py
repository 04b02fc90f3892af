"""Download of one encrypted layer for all clients that wait for it.

Several connections fetch chunks, each from where it was interrupted, also after a restart. One task verifies
the bytes in order. Clients get plaintext as far as that has come, and the last piece only if the whole layer
is verified.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from registry.errors import (
    LayerDamagedError,
    NodeProxyError,
    RegistryRefusedError,
    RegistryUnreachableError,
)
from registry.node_proxy.cache import CHUNK_BYTES, CachedLayer, LayerCache
from registry.node_proxy.cipher import PIECE_BYTES, Decryptor, LayerVerifier
from registry.node_proxy.edge import Edge
from registry.node_proxy.layers import EncryptedBlob
from registry.node_proxy.registry_session import MIN_BYTES, RegistrySession
from storage.digest import Digest
from storage.locks import KeyedLocks

CONNECTIONS: Final = 4
PATIENCE_S: Final = 60.0
"""Time without progress after which a download fails. The client's next attempt continues it."""

_VERIFIED_BYTES = 4 << 20  # at a time
_READ_BYTES = 1 << 20  # at a time
_WRITTEN_BYTES = 256 << 10  # at a time; a killed proxy loses at most this for each connection
_WRITTEN_PIECES = 256  # below the system's limit, IOV_MAX
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0

_log = structlog.get_logger()


class LayerDownload:
    """One layer while clients read it."""

    def __init__(self, layer: EncryptedBlob, cache: LayerCache) -> None:
        self._layer = layer
        self._cache = cache
        self._sources: list[RegistrySession] = []
        self._edge: Edge | None = None
        self._used_edge: Edge | None = None
        self._stored: CachedLayer | None = None
        self._received: dict[int, int] = {}
        self._verified_bytes = 0
        self._is_verified = False
        self._error: Exception | None = None
        self._changed = asyncio.Event()
        self._progress_at = asyncio.get_running_loop().time()
        self._pause_s = _FIRST_PAUSE_S

    def add_source(self, source: RegistrySession, layer: EncryptedBlob) -> None:
        """Add a session from which the layer can be fetched. Raises LayerDamagedError: it is another one."""
        if layer != self._layer:
            raise LayerDamagedError(f"The layer {layer.plaintext} has other keys in another pull.")
        self._sources.append(source)

    @property
    def has_failed(self) -> bool:
        """Whether every reader gets an error."""
        return self._error is not None

    @property
    def is_damaged(self) -> bool:
        """Whether readers may have got bytes that are not the layer's."""
        return isinstance(self._error, LayerDamagedError)

    async def run(self) -> None:
        """Fetch and verify the layer, and keep its space reserved until this task is cancelled."""
        try:
            async with self._cache.reserve(self._layer.ciphertext, self._layer.size_bytes) as stored:
                self._stored = stored
                await self._complete(stored)
                await asyncio.Event().wait()
        except* (NodeProxyError, OSError) as raised:
            self._error = _first(raised)
        finally:
            self._error = self._error or RegistryUnreachableError("The download was stopped.")
            self._notify()  # whatever happened, no reader waits for more
        if isinstance(self._error, LayerDamagedError) and self._stored is not None:
            _log.error("proxy.layer_damaged", layer=str(self._layer.plaintext))
            if self._used_edge is not None:
                self._used_edge.distrust()
            await asyncio.to_thread(self._stored.discard)

    async def read(self, start: int, end: int) -> AsyncGenerator[bytes]:
        """Yield the plaintext between two offsets.

        Raises:
            NodeProxyError: The layer cannot be fetched, or does not match its HMAC or digest.
            OSError: The cache cannot be read or written.
        """
        decryptor, buffer = Decryptor(self._layer.key, start), bytearray(PIECE_BYTES)
        while start < end:
            stop = min(start + _READ_BYTES, end, start - start % CHUNK_BYTES + CHUNK_BYTES)
            await self._wait(partial(self._may_leave, stop))
            try:
                pieces = await asyncio.to_thread(self._decrypt, decryptor, start, stop - start, buffer)
            except OSError as error:
                raise self._error or error from None  # the bytes of a damaged layer were removed
            for piece in pieces:
                yield piece
            start = stop

    async def mark_served(self) -> None:
        """Record that a client got the whole layer."""
        if self._stored is not None:
            await asyncio.to_thread(self._stored.mark_served)

    async def _complete(self, stored: CachedLayer) -> None:
        offsets = range(0, self._layer.size_bytes, CHUNK_BYTES)
        self._received = await asyncio.to_thread(lambda: {each: stored.received(each) for each in offsets})
        remaining = iter(offsets)
        self._edge = await self._sources[-1].edge() if self._sources else None
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CONNECTIONS):
                tasks.create_task(self._fetch_chunks(stored, remaining))
            tasks.create_task(self._verify(stored))
        self._is_verified = True
        self._notify()

    async def _fetch_chunks(self, stored: CachedLayer, offsets: Iterator[int]) -> None:
        for offset in offsets:
            while self._received[offset] < stored.chunk_size(offset):
                if await self._fetch_from_edge(stored, offset):
                    continue
                if not self._sources:
                    raise RegistryRefusedError("No pull may fetch this layer any more.")
                source = self._sources[-1]
                try:
                    await self._fetch_rest(stored, offset, source)
                except RegistryRefusedError:
                    if source in self._sources:
                        self._sources.remove(source)
                    if not self._sources:
                        raise
                except RegistryUnreachableError as error:
                    await self._pause(error)

    async def _fetch_from_edge(self, stored: CachedLayer, offset: int) -> bool:
        """Ask the edge for what is missing of a chunk. Returns False if it is not to be asked."""
        edge = self._edge
        if edge is None or not edge.is_usable:
            return False
        self._used_edge = edge
        try:
            await self._fetch_rest(stored, offset, edge)
            edge.succeeded()
        except RegistryRefusedError:
            self._edge = None
        except RegistryUnreachableError as error:
            edge.failed(str(error))
        return True

    async def _fetch_rest(self, stored: CachedLayer, offset: int, source: RegistrySession | Edge) -> None:
        """Fetch what is missing of a chunk. Also an interrupted attempt keeps what has arrived."""
        at = self._received[offset]
        pieces: list[bytes] = []

        async def write() -> None:
            while pieces:
                count = await asyncio.to_thread(stored.write, offset, self._received[offset], pieces)
                self._received[offset] += count
                self._drop(pieces, count)
                if count >= MIN_BYTES:
                    self._progress_at, self._pause_s = asyncio.get_running_loop().time(), _FIRST_PAUSE_S
            self._notify()

        arriving = source.read_range(self._layer.ciphertext, offset + at, stored.chunk_size(offset) - at)
        try:
            async with aclosing(arriving):
                async for piece in arriving:
                    pieces.append(piece)
                    if len(pieces) >= _WRITTEN_PIECES or sum(map(len, pieces)) >= _WRITTEN_BYTES:
                        await write()
        finally:
            await write()

    @staticmethod
    def _drop(pieces: list[bytes], count: int) -> None:
        """Remove the first bytes from a list of pieces."""
        while pieces and count >= len(pieces[0]):
            count -= len(pieces.pop(0))
        if count:
            pieces[0] = pieces[0][count:]

    async def _pause(self, error: RegistryUnreachableError) -> None:
        if asyncio.get_running_loop().time() - self._progress_at > PATIENCE_S:
            raise error
        pause_s = max(self._pause_s, error.retry_after_s or 0)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        await asyncio.sleep(min(pause_s, PATIENCE_S))

    async def _verify(self, stored: CachedLayer) -> None:
        """Verify the bytes in order, as far as they have arrived."""
        verifier, buffer = LayerVerifier(self._layer), bytearray(PIECE_BYTES)

        def verify(start: int, length: int) -> None:
            for piece in stored.read(start, length, buffer):
                verifier.update(piece)

        while (start := self._verified_bytes) < self._layer.size_bytes:
            await self._wait(partial(self._has_arrived, start))
            count = min(self._arrived(start), _VERIFIED_BYTES)
            await asyncio.to_thread(verify, start, count)
            self._verified_bytes += count
            self._notify()
        if not verifier.matches():
            raise LayerDamagedError(
                f"The layer {self._layer.plaintext} does not match its HMAC or digest: it was damaged or "
                "modified on the way. Pull again."
            )

    def _arrived(self, start: int) -> int:
        """Return how many bytes after an offset have arrived, in its chunk."""
        at = start % CHUNK_BYTES
        return self._received[start - at] - at

    def _has_arrived(self, start: int) -> bool:
        return self._arrived(start) > 0

    def _may_leave(self, end: int) -> bool:
        return self._verified_bytes >= end and (end < self._layer.size_bytes or self._is_verified)

    def _decrypt(self, decryptor: Decryptor, start: int, length: int, buffer: bytearray) -> list[bytes]:
        if self._stored is None:
            raise RuntimeError("nothing has arrived")
        return [decryptor.update(piece) for piece in self._stored.read(start, length, buffer)]

    async def _wait(self, is_ready: Callable[[], bool]) -> None:
        while not is_ready():
            if self._error is not None:
                raise self._error
            await self._changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


@dataclass(slots=True)
class _Running:
    download: LayerDownload
    task: asyncio.Task[None]
    readers: int = 0


class LayerDownloads:
    """Downloads that are running, at most one for each layer."""

    def __init__(self, cache: LayerCache) -> None:
        self._cache = cache
        self._running: dict[Digest, _Running] = {}
        self._locks: KeyedLocks[Digest] = KeyedLocks()

    @asynccontextmanager
    async def open(self, layer: EncryptedBlob, source: RegistrySession) -> AsyncIterator[LayerDownload]:
        """Join the layer's download, or start one. It stops when its last reader leaves.

        Raises:
            LayerDamagedError: Another pull has other keys for the layer.
        """
        running = self._running.get(layer.ciphertext)
        if running is None or running.download.has_failed:
            download = LayerDownload(layer, self._cache)
            running = _Running(download, asyncio.create_task(self._run(layer.ciphertext, download)))
            self._running[layer.ciphertext] = running
        running.download.add_source(source, layer)
        running.readers += 1
        try:
            yield running.download
        finally:
            running.readers -= 1
            if not running.readers:
                running.task.cancel()
                if self._running.get(layer.ciphertext) is running:
                    del self._running[layer.ciphertext]

    async def _run(self, digest: Digest, download: LayerDownload) -> None:
        async with self._locks.hold(digest):  # the task before may still be ending
            await download.run()


def _first(raised: BaseExceptionGroup[Exception]) -> Exception:
    error: BaseException = raised
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, Exception) else RegistryUnreachableError("The download was stopped.")
