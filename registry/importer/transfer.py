"""Layers from an upstream into storage: in parallel, resumed after cuts, verified before they are visible.

Memory is bounded by what runs: per layer one read buffer of the connection and the batches of one
`BlobWriter`, a few MiB, whatever the sizes. Bytes are counted and hashed as they arrive, so nothing that an
upstream says of itself is believed.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import Final

from registry.errors import ImportFailedError, PullFailedError, StoreFailedError
from registry.importer.plan import Plan
from registry.importer.sharing import Sharing
from registry.oci.documents import Descriptor
from registry.ports import Progress, Stage
from registry.upstream.source import Source
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


class Tally:
    """Counts what has arrived, and says so."""

    def __init__(self, plan: Plan, report: Callable[[Progress], None]) -> None:
        self._report = report
        self._layers_total = len(plan.layers)
        self._bytes_total = sum(layer.size_bytes for layer in plan.layers)
        self._layers_done = self._bytes_done = 0
        self.enter(Stage.PULLING)

    def add(self, count: int) -> None:
        """Count bytes; negative when they have to come again."""
        self._bytes_done += count
        self.enter(Stage.PULLING)

    def layer_done(self) -> None:
        """Count a layer."""
        self._layers_done += 1
        self.enter(Stage.PULLING)

    def enter(self, stage: Stage) -> None:
        """Report where the import is."""
        self._report(
            Progress(stage, self._layers_done, self._layers_total, self._bytes_done, self._bytes_total)
        )


class Transfer:
    """Copies blobs of one import into one tenant's storage."""

    def __init__(
        self, source: Source, store: BlobStore, tenant: str, parallel: int, sharing: Sharing | None = None
    ) -> None:
        self._sharing = sharing
        self._source = source
        self._store = store
        self._tenant = tenant
        self._parallel = parallel

    async def fetch_layers(self, layers: tuple[Descriptor, ...], tally: Tally) -> None:
        """Fetch every layer that the tenant does not have, `parallel` at a time.

        Raises:
            AuthenticationFailedError, PullFailedError, StoreFailedError: Of the first layer that failed;
                the others are stopped and leave nothing behind.
        """
        waiting = iter(layers)
        try:
            async with asyncio.TaskGroup() as lanes:
                for _ in range(min(self._parallel, len(layers))):
                    lanes.create_task(self._lane(waiting, tally))
        except BaseExceptionGroup as group:
            failure = _first(group)
        else:
            return
        raise failure

    async def put(self, digest: Digest, data: bytes) -> None:
        """Store a document that was fetched whole.

        Raises:
            StoreFailedError: Storage failed.
        """
        try:
            if await self._store.contains(self._tenant, digest):
                return
            async with self._store.ingest(self._tenant, digest, len(data)) as writer:
                await writer.write(data)
                await writer.commit()
        except StorageError as error:
            raise _store_failed(error) from error

    async def _lane(self, waiting: Iterator[Descriptor], tally: Tally) -> None:
        for layer in waiting:
            await self._layer(layer, tally)
            tally.layer_done()

    async def _layer(self, layer: Descriptor, tally: Tally) -> None:
        for last in (*[False] * (STORE_ATTEMPTS - 1), True):
            counted = _Counted(tally)
            try:
                return await self._copy(layer, counted)
            except DigestMismatchError:
                raise PullFailedError(f"the layer {layer.digest} is not what its digest says") from None
            except (StorageUnavailableError, KeyUnavailableError) as error:
                if last:
                    raise _store_failed(error) from error
                counted.take_back()
                await asyncio.sleep(STORE_PAUSE_S)
            except StorageError as error:
                raise _store_failed(error) from error
        return None

    async def _copy(self, layer: Descriptor, counted: "_Counted") -> None:
        if await self._is_there(layer):
            counted.add(layer.size_bytes)
            return
        async with (
            self._store.ingest(self._tenant, layer.digest, layer.size_bytes) as writer,
            aclosing(self._source.stream(layer)) as chunks,
        ):
            async for chunk in chunks:
                await writer.write(chunk)
                counted.add(len(chunk))
            await writer.commit()
        if self._sharing is not None:
            await self._sharing.verified(self._source, layer)

    async def _is_there(self, layer: Descriptor) -> bool:
        if await self._store.contains(self._tenant, layer.digest):
            return True
        return self._sharing is not None and await self._sharing.link(self._source, self._tenant, layer)


class _Counted:
    """One try at one layer: what it has added to the tally."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self.count = 0

    def add(self, count: int) -> None:
        self.count += count
        self._tally.add(count)

    def take_back(self) -> None:
        self._tally.add(-self.count)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Choose what to raise for several lanes: a failure of the import before anything else."""
    failures = [error for error in group.exceptions if isinstance(error, ImportFailedError)]
    return failures[0] if failures else group.exceptions[0]


def _store_failed(error: StorageError) -> StoreFailedError:
    if isinstance(error, StorageFullError):
        return StoreFailedError("the storage is full: try again later")
    if isinstance(error, KeyUnavailableError):
        return StoreFailedError("the encryption keys cannot be reached: try again later")
    return StoreFailedError("the storage does not answer: try again later")
