"""Layers from an upstream into storage: in parallel, resumed after cuts, verified before they are visible.

Memory is bounded by what runs: per layer one read buffer of the connection and the batches of one
`BlobWriter`, a few MiB, whatever the sizes; and for all of them together what may be fetched ahead
(`registry.upstream.ranges`). Bytes are counted and hashed as they arrive, so nothing that an upstream says of
itself is believed.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

import structlog

from registry.errors import PullFailedError, StoreFailedError
from registry.imports.gather import gather_or_cancel
from registry.imports.linking import BlobLinker
from registry.imports.progress import TransferProgress
from registry.imports.transfer_lock import TransferLock
from registry.oci.documents import Descriptor
from registry.upstream.ranges import Download, DownloadOptions, PrefetchBudget
from registry.upstream.repository import UpstreamRepository
from storage.blobs import BlobStore
from storage.digest import Digest
from storage.errors import (
    DigestMismatchError,
    KeyUnavailableError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)

STORE_ATTEMPTS: Final = 3
STORE_PAUSE_S: Final = 1.0
AHEAD_BYTES: Final = 32 << 20

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TransferOptions:
    """What all transfers of a process share.

    Attributes:
        lines: How large blobs are fetched.
        transfer_lock: Keeps two imports from fetching one blob at the same time.
        layers: How many layers of one image are fetched at a time.
    """

    lines: DownloadOptions = field(default_factory=lambda: DownloadOptions(PrefetchBudget(AHEAD_BYTES)))
    transfer_lock: TransferLock = field(default_factory=TransferLock)
    layers: int = 3


class Transfer:
    """Copies blobs of one import into one tenant's storage.

    Attributes:
        arrived: Gets each layer once the tenant has it, those included that it had before.
    """

    def __init__(
        self,
        source: UpstreamRepository,
        store: BlobStore,
        tenant: str,
        options: TransferOptions,
        sharing: BlobLinker | None = None,
    ) -> None:
        self._sharing = sharing
        self._source = source
        self._store = store
        self._tenant = tenant
        self._options = options
        self.arrived: asyncio.Queue[Descriptor] = asyncio.Queue()

    async def missing_bytes(self, layers: tuple[Descriptor, ...]) -> int:
        """Add up the layers that the tenant does not have. Raises StoreFailedError."""
        try:
            absent = [layer for layer in layers if not await self._store.contains(self._tenant, layer.digest)]
        except StorageError as error:
            raise _store_failed(error) from error
        return sum(layer.size_bytes for layer in absent)

    async def fetch_layers(self, layers: tuple[Descriptor, ...], progress: TransferProgress) -> None:
        """Fetch every layer that the tenant does not have, some at a time.

        Raises:
            AuthenticationFailedError, PullFailedError, StoreFailedError: Of the first layer that failed;
                the others are stopped and leave nothing behind.
        """
        waiting = iter(layers)
        await gather_or_cancel(
            self._lane(waiting, progress) for _ in range(min(self._options.layers, len(layers)))
        )

    async def put_all(self, documents: Iterable[tuple[Digest, bytes]]) -> None:
        """Store documents that were fetched whole, side by side. Raises StoreFailedError."""
        await gather_or_cancel(self.put(digest, data) for digest, data in documents)

    async def put(self, digest: Digest, data: bytes) -> None:
        """Store a document that was fetched whole.

        Raises:
            StoreFailedError: Storage failed.
        """
        try:
            await self._store.put(self._tenant, digest, data)
        except StorageError as error:
            raise _store_failed(error) from error

    async def _lane(self, waiting: Iterator[Descriptor], progress: TransferProgress) -> None:
        # Among whom a layer is brought by one at a time: those who could link it, or this tenant alone.
        trusted = self._sharing is not None and self._sharing.trusts(self._source)
        scope = self._source.reference.registry if trusted else self._tenant
        for layer in waiting:
            if not await self._found(layer, progress):
                async with self._options.transfer_lock.alone(f"{scope}/{layer.digest}"):
                    await self._layer(layer, progress)
            progress.layer_done()
            self.arrived.put_nowait(layer)

    async def _layer(self, layer: Descriptor, progress: TransferProgress) -> None:
        for last in (*[False] * (STORE_ATTEMPTS - 1), True):
            if await self._found(layer, progress) or await self._linked(layer, progress):
                break
            copy = _Copy(self._source, self._store, self._tenant, layer, progress)
            try:
                await copy.run(self._options.lines)
                if self._sharing is not None:
                    await self._sharing.verified(self._source, layer)
            except DigestMismatchError:
                if last or not copy.pieced_together:
                    raise PullFailedError(f"the layer {layer.digest} is not what its digest says") from None
                self._source.disable_ranges(layer)  # a part was wrong; the whole may be right
            except (StorageUnavailableError, KeyUnavailableError) as error:
                if last:
                    raise _store_failed(error) from error
                await asyncio.sleep(STORE_PAUSE_S)
            except StorageError as error:
                raise _store_failed(error) from error
            else:
                break
            copy.take_back()

    async def _found(self, layer: Descriptor, progress: TransferProgress) -> bool:
        try:
            there = await self._store.contains(self._tenant, layer.digest)
        except StorageError as error:
            raise _store_failed(error) from error
        if there:
            progress.found(layer.size_bytes)
        return there

    async def _linked(self, layer: Descriptor, progress: TransferProgress) -> bool:
        if self._sharing is None or not await self._sharing.link(self._source, self._tenant, layer):
            return False
        progress.found(layer.size_bytes)
        return True


class _Copy:
    """One try at one layer.

    Attributes:
        pieced_together: Not all of it came as one whole from its start.
    """

    def __init__(
        self,
        source: UpstreamRepository,
        store: BlobStore,
        tenant: str,
        layer: Descriptor,
        progress: TransferProgress,
    ) -> None:
        self._source = source
        self._store = store
        self._tenant = tenant
        self._layer = layer
        self._progress = progress
        self._fetched_bytes = 0
        self._resumed_bytes = 0
        self.pieced_together = False

    async def run(self, lines: DownloadOptions) -> None:
        async with self._store.ingest(self._tenant, self._layer.digest, self._layer.size_bytes) as writer:
            self._resumed_bytes = writer.resumed_bytes
            if self._resumed_bytes:
                _log.info("layer.resumed", digest=str(self._layer.digest), resumed_bytes=self._resumed_bytes)
                self._progress.resumed(self._resumed_bytes)
            download = Download(self._source, self._layer, self._resumed_bytes, lines)
            async with aclosing(download.chunks()) as chunks:
                async for chunk in chunks:
                    await writer.write(chunk)
                    self._fetched_bytes += len(chunk)
                    self._progress.fetched(len(chunk))
            self.pieced_together = bool(self._resumed_bytes) or download.ranged
            await writer.commit()

    def take_back(self) -> None:
        self._progress.take_back(self._resumed_bytes + self._fetched_bytes)


def _store_failed(error: StorageError) -> StoreFailedError:
    if isinstance(error, StorageFullError):
        return StoreFailedError("the storage is full: try again later")
    if isinstance(error, KeyUnavailableError):
        return StoreFailedError("the encryption keys cannot be reached: try again later")
    return StoreFailedError("the storage does not answer: try again later")
