"""The use-case of filling edge caches with an image before its first pull."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from auth.ports import AuditTrail
from registry.audit.types import RegistryEventType
from registry.errors import ConflictError, EdgeFailedError, NotFoundError
from registry.model.edges import SLICE_BYTES, Ciphertext, Ciphertexts, Edge, EdgeRecords
from registry.services.edges import edge_event
from storage.digest import Digest

EDGES_AT_ONCE: Final = 16
PREFETCH_S: Final = 45.0
"""Time for one call. The caller continues with the next one, where this one stopped."""

_REQUESTS_AT_ONCE: Final = 8


class EdgeClient(Protocol):
    """Asks edges for bytes."""

    async def touch(self, url: str, offset: int) -> bool:
        """Ask for one byte of a blob, so that the edge fetches the slice around it.

        Returns:
            Whether the edge had the slice.

        Raises:
            EdgeFailedError: The edge does not answer, or not with this byte.
        """


@dataclass(frozen=True, slots=True)
class Warmed:
    """What an edge has of an image.

    Attributes:
        bytes_done: Bytes from the beginning of the image's layers that the edge has, at least.
        bytes_fetched: Bytes that it did not have before.
        problem: Why it did not get further; None if it has all, or the time was over.
    """

    edge: str
    bytes_done: int
    bytes_fetched: int = 0
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Prefetched:
    """Result of a prefetch.

    Attributes:
        size_bytes: Size of the image's encrypted layers, in all variants.
    """

    layers: int
    size_bytes: int
    edges: Sequence[Warmed]


class Prefetch:
    """Fills edges with the layers of an image, before its first node asks."""

    def __init__(
        self, records: EdgeRecords, ciphertexts: Ciphertexts, client: EdgeClient, trail: AuditTrail
    ) -> None:
        self._records = records
        self._ciphertexts = ciphertexts
        self._client = client
        self._trail = trail

    async def run(self, image: Digest, names: Sequence[str], start: int, *, source: str) -> Prefetched:
        """Ask edges for each slice of an image's layers, for at most `PREFETCH_S`.

        Args:
            image: Digest of the image, or of one of its manifests.
            names: Names of at most `EDGES_AT_ONCE` edges.
            start: Bytes of the layers to skip: `bytes_done` of an earlier call.
            source: Network address of the caller.

        Raises:
            NotFoundError: There is no such edge or image.
            ConflictError: The image has no encrypted layers.
        """
        known = {edge.name: edge for edge in await self._records.list()}
        missing = next((name for name in names if name not in known), None)
        if missing is not None:
            raise NotFoundError(f"there is no edge {missing!r}: see `crisper edge list`")
        layers = await self._ciphertexts.of_image(image)
        if not layers:
            raise ConflictError(
                "no layers of this image are stored as ciphertext, which is what edges keep: check the "
                "digest with `crisper image list`, or encrypt the image with `crisper image rekey`"
            )
        deadline = asyncio.get_running_loop().time() + PREFETCH_S
        edges = [known[name] for name in dict.fromkeys(names)]
        warmed = await asyncio.gather(*(self._warm(edge, layers, start, deadline) for edge in edges))
        for each in warmed:
            facts = {"digest": str(image), "bytes": str(each.bytes_fetched)}
            await self._trail.record(edge_event(RegistryEventType.EDGE_WARMED, each.edge, source, **facts))
        return Prefetched(len(layers), sum(layer.size_bytes for layer in layers), warmed)

    async def _warm(self, edge: Edge, layers: Sequence[Ciphertext], start: int, deadline: float) -> Warmed:
        slices = _slices(layers, start)
        done, fetched = min(start, sum(layer.size_bytes for layer in layers)), 0
        for at in range(0, len(slices), _REQUESTS_AT_ONCE):
            batch = slices[at : at + _REQUESTS_AT_ONCE]
            requests = (self._client.touch(edge.blob_url(layer.digest), offset) for layer, offset, _ in batch)
            try:
                async with asyncio.timeout_at(deadline):
                    had = await asyncio.gather(*requests)
            except TimeoutError:
                break
            except EdgeFailedError as error:
                return Warmed(edge.name, done, fetched, str(error))
            sizes = [size for _, _, size in batch]
            done += sum(sizes)
            fetched += sum(size for size, known in zip(sizes, had, strict=True) if not known)
        return Warmed(edge.name, done, fetched)


def _slices(layers: Sequence[Ciphertext], start: int) -> list[tuple[Ciphertext, int, int]]:
    """Return the slices after `start` bytes: layer, offset, and size, of the first one what is left."""
    found, before = [], 0
    for layer in layers:
        for offset in range(0, layer.size_bytes, SLICE_BYTES):
            size = min(SLICE_BYTES, layer.size_bytes - offset)
            before += size
            if before > start:
                found.append((layer, offset, min(size, before - start)))
    return found
