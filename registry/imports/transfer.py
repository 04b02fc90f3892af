"""Transfer of layers from an upstream into storage: concurrent, resumable, verified before they are visible.

Memory use does not depend on layer sizes: each running layer needs one read buffer of the connection and the
batches of one `BlobWriter`, a few MiB, and all layers share the prefetch budget (`registry.upstream.ranges`).
Bytes are counted and hashed as they arrive, so statements of the upstream are never trusted.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

import structlog

from registry.errors import PullFailedError, StoreFailedError, StoreUnavailableError
from registry.imports.gather import gather_or_cancel
from registry.imports.linking import BlobLinker
from registry.imports.progress import TransferProgress
from registry.imports.transfer_lock import TransferLock
from registry.oci.documents import Descriptor
from registry.oci.encrypted_manifest import encrypted_media_type
from registry.upstream.minimum_rate import MinimumRate
from registry.upstream.ranges import Download, DownloadOptions, PrefetchBudget
from registry.upstream.repository import UpstreamRepository
from storage.blobs import BlobStore
from storage.digest import Digest
from storage.errors import (
    BlobDamagedError,
    BlobNotFoundError,
    DigestMismatchError,
    KeyUnavailableError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)

STORE_ATTEMPTS: Final = 3
STORE_PAUSE_S: Final = 1.0
AHEAD_BYTES: Final = 32 << 20
DEADLINE_S: Final = 3600.0  # for retries and storage, in addition to the size at the minimum rate

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TransferOptions:
    """Settings and locks that all transfers of a process share.

    Attributes:
        download: How large blobs are fetched.
        transfer_lock: Prevents two imports from fetching the same blob at the same time.
        layers: Number of layers of one image that are fetched concurrently.
    """

    download: DownloadOptions = field(default_factory=lambda: DownloadOptions(PrefetchBudget(AHEAD_BYTES)))
    transfer_lock: TransferLock = field(default_factory=TransferLock)
    layers: int = 3


class Transfer:
    """Copies blobs of one import into one tenant's storage.

    Args:
        deliverable: Whether to store layers as ciphertext that can be delivered as it is.

    Attributes:
        arrived: Receives each layer as soon as the tenant has it, including layers that it already had.
    """

    def __init__(
        self,
        source: UpstreamRepository,
        store: BlobStore,
        tenant: str,
        options: TransferOptions,
        sharing: BlobLinker | None = None,
        *,
        deliverable: bool = False,
    ) -> None:
        self._sharing = sharing
        self._deliverable = deliverable
        self._source = source
        self._store = store
        self._tenant = tenant
        self._options = options
        self._rate = options.download.minimum_rate(source.reference.host)
        self.arrived: asyncio.Queue[Descriptor] = asyncio.Queue()

    async def missing_bytes(self, layers: tuple[Descriptor, ...]) -> int:
        """Return the total size of the layers that the tenant does not have. Raises StoreFailedError."""
        try:
            absent = [layer for layer in layers if not await self._store.contains(self._tenant, layer.digest)]
        except StorageError as error:
            raise _store_failed(error) from error
        return sum(layer.size_bytes for layer in absent)

    async def fetch_layers(self, layers: tuple[Descriptor, ...], progress: TransferProgress) -> None:
        """Fetch all layers that the tenant does not have, several concurrently.

        Raises:
            AuthenticationFailedError, PullFailedError, StoreFailedError: The error of the first layer that
                failed, or the transfer took too long; the other transfers are cancelled and leave nothing
                behind.
        """
        waiting = iter(layers)
        deadline_s = self._deadline_s(layers)
        try:
            async with asyncio.timeout(deadline_s) as deadline:
                await gather_or_cancel(
                    self._fetch_from(waiting, progress) for _ in range(min(self._options.layers, len(layers)))
                )
        except TimeoutError:
            if deadline_s is None or not deadline.expired():
                raise
            raise PullFailedError(
                f"{self._source.reference.host} did not send the image within {deadline_s / 3600:.1f} hours, "
                "the limit for its size. Check the registry's connection, or copy the image to a faster "
                "registry"
            ) from None

    def _deadline_s(self, layers: tuple[Descriptor, ...]) -> float | None:
        """Return the time limit for the transfer of these layers; None if there is no minimum rate."""
        rate = self._options.download.min_bytes_per_s
        return DEADLINE_S + sum(layer.size_bytes for layer in layers) / rate if rate else None

    async def put_all(self, documents: Iterable[tuple[Digest, bytes]]) -> None:
        """Store fetched documents concurrently. Raises StoreFailedError."""
        await gather_or_cancel(self.put(digest, data) for digest, data in documents)

    async def put(self, digest: Digest, data: bytes) -> None:
        """Store a fetched document.

        Raises:
            StoreFailedError: Storage failed.
        """
        try:
            await self._store.put(self._tenant, digest, data)
        except StorageError as error:
            raise _store_failed(error) from error

    async def _fetch_from(self, waiting: Iterator[Descriptor], progress: TransferProgress) -> None:
        # The lock covers all tenants that could link the layer, or only this tenant.
        trusted = self._sharing is not None and self._sharing.trusts(self._source)
        scope = self._source.reference.registry if trusted else self._tenant
        for layer in waiting:
            if not await self._found(layer, progress):
                async with self._options.transfer_lock.hold(f"{scope}/{layer.digest}"):
                    await self._layer(layer, progress)
            progress.layer_done()
            self.arrived.put_nowait(layer)

    async def _layer(self, layer: Descriptor, progress: TransferProgress) -> None:
        for last in (*[False] * (STORE_ATTEMPTS - 1), True):
            if await self._is_there(layer, progress):
                break
            copy = _Copy(
                self._source,
                self._store,
                self._tenant,
                layer,
                progress,
                deliverable=self._is_deliverable(layer),
            )
            try:
                await copy.run(self._options.download, self._rate)
                if self._sharing is not None:
                    await self._sharing.verified(self._source, layer)
            except DigestMismatchError:
                if last or not copy.pieced_together:
                    raise PullFailedError(
                        f"{self._source.reference.host} sent other bytes for the layer {layer.digest} than "
                        "its digest says: push the image again"
                    ) from None
                self._source.disable_ranges(layer)  # a range was corrupt; the whole blob may be intact
            except (StorageUnavailableError, KeyUnavailableError) as error:
                if last:
                    raise _store_failed(error) from error
                await asyncio.sleep(STORE_PAUSE_S)
            except StorageError as error:
                raise _store_failed(error) from error
            else:
                break
            copy.take_back()

    async def _is_there(self, layer: Descriptor, progress: TransferProgress) -> bool:
        """Return whether the tenant has the layer, or gets it without a download."""
        return (
            await self._found(layer, progress)
            or await self._linked(layer, progress)
            or await self._converted(layer, progress)
        )

    async def _found(self, layer: Descriptor, progress: TransferProgress) -> bool:
        try:
            has = self._store.deliverable if self._is_deliverable(layer) else self._store.contains
            there = await has(self._tenant, layer.digest)
        except StorageError as error:
            raise _store_failed(error) from error
        if there:
            progress.found(layer.size_bytes)
        return there

    def _is_deliverable(self, layer: Descriptor) -> bool:
        return self._deliverable and encrypted_media_type(layer.media_type) is not None

    async def _linked(self, layer: Descriptor, progress: TransferProgress) -> bool:
        if self._sharing is None:
            return False
        linked = await self._sharing.link(
            self._source, self._tenant, layer, deliverable=self._is_deliverable(layer)
        )
        if linked:
            progress.found(layer.size_bytes)
        return linked

    async def _converted(self, layer: Descriptor, progress: TransferProgress) -> bool:
        """Encrypt a layer for delivery that the tenant has in the other format. Returns False: fetch it."""
        if not self._is_deliverable(layer):
            return False
        try:
            if not await self._store.contains(self._tenant, layer.digest):
                return False
            await self._store.rekey(self._tenant, layer.digest)
        except (BlobNotFoundError, BlobDamagedError, DigestMismatchError):
            return False
        except StorageError as error:
            raise _store_failed(error) from error
        progress.found(layer.size_bytes)
        return True


class _Copy:
    """One attempt to transfer one layer.

    Attributes:
        pieced_together: The layer was assembled from several responses.
    """

    def __init__(
        self,
        source: UpstreamRepository,
        store: BlobStore,
        tenant: str,
        layer: Descriptor,
        progress: TransferProgress,
        *,
        deliverable: bool,
    ) -> None:
        self._source = source
        self._store = store
        self._tenant = tenant
        self._deliverable = deliverable
        self._layer = layer
        self._progress = progress
        self._fetched_bytes = 0
        self._resumed_bytes = 0
        self.pieced_together = False

    async def run(self, options: DownloadOptions, rate: MinimumRate) -> None:
        async with self._store.ingest(
            self._tenant, self._layer.digest, self._layer.size_bytes, deliverable=self._deliverable
        ) as writer:
            self._resumed_bytes = writer.resumed_bytes
            if self._resumed_bytes:
                _log.info("layer.resumed", digest=str(self._layer.digest), resumed_bytes=self._resumed_bytes)
                self._progress.resumed(self._resumed_bytes)
            download = Download(self._source, self._layer, self._resumed_bytes, options, rate)
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
        return StoreFailedError("Crisper's storage is full: try again later")
    if isinstance(error, KeyUnavailableError):
        return StoreUnavailableError("Crisper's encryption keys cannot be reached: try again later")
    return StoreUnavailableError("Crisper's storage does not answer: try again later")
