"""The compressing stage: decompresses an image's layers, verifies them, and recompresses them to zstd.

Layers are read from storage, whether this import or an earlier one fetched them. The zstd layers are stored
in addition, and a second manifest references them; the original image is not changed
(docs/adr/0034-zstd-variant-as-separate-image.md).

Dedicated threads with a low priority do the work, so that pulls from the same machine take precedence. Memory
holds the frames that these threads process, and one more.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from registry.errors import DocumentError, ImportFailedError, PullFailedError
from registry.imports.plan import PlannedImage
from registry.imports.recompress.encode import EncodedLayer, LayerEncoder
from registry.imports.recompress.unpack import Allowance
from registry.model.images import ContentKind, ImageContent, StoredImage, Variant
from registry.model.imports import (
    BlobPins,
    ImportJob,
    KnownLayer,
    KnownLayers,
    Progress,
    Stage,
)
from registry.observe import Metrics
from registry.oci.documents import Descriptor
from registry.oci.mediatypes import OCI_MANIFEST
from registry.oci.variant import ENCODABLE, parse_diff_ids, variant_manifest
from registry.upstream.image_documents import ImageDocuments
from registry.upstream.repository import off_loop
from storage.blobs import BlobStore
from storage.digest import Digest
from storage.threads import Threads

NICENESS: Final = 10

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Compression:
    """Settings of the compressing stage.

    Attributes:
        level: Compression level of zstd, 1 to 19.
        threads: Number of threads that all imports of a process share.
        min_gain: Minimum fraction of a layer's size that recompression must save.
        max_unpacked_bytes: Limit on the decompressed size of all layers of one import.
    """

    level: int
    threads: int
    min_gain: float
    max_unpacked_bytes: int


class Compressor:
    """Creates zstd variants of images. Owns its threads; call `close` at the end."""

    def __init__(
        self, store: BlobStore, pins: BlobPins, memory: KnownLayers, metrics: Metrics, how: Compression
    ) -> None:
        self._store = store
        self._pins = pins
        self._memory = memory
        self._metrics = metrics
        self._max_unpacked_bytes = how.max_unpacked_bytes
        self._executor = ThreadPoolExecutor(
            how.threads, thread_name_prefix="compress", initializer=_lower_priority
        )
        self._encoder = LayerEncoder(
            store, Threads(self._executor), ahead=how.threads, level=how.level, min_gain=how.min_gain
        )

    def close(self) -> None:
        """Stop the threads. Call it after all imports have ended."""
        self._executor.shutdown(wait=False)

    async def run(
        self,
        job: ImportJob,
        platforms: Sequence[PlannedImage],
        arrived: asyncio.Queue[Descriptor],
        report: Callable[[Progress], None],
        *,
        deliverable: bool = False,
    ) -> Sequence[StoredImage]:
        """Verify an image's layers as they arrive, and create the zstd variants that save enough.

        Layers that several platforms share are compressed once. Problems with the variant never fail an
        import: the image is then stored without one.

        Args:
            platforms: The planned image of each platform.
            arrived: Yields each of the image's layers once when it is in storage, in any order.
            report: Called in the event loop at every step; it must not block.
            deliverable: Whether to store layers as ciphertext that can be delivered as it is.

        Returns:
            The image of each platform with the diff_ids of its verified layers, and with its zstd variant if
            it has one.

        Raises:
            PullFailedError: A layer does not match the config, so that no runtime could run the image, or is
                a decompression bomb.
        """
        try:
            work = _Work(job, platforms, report, deliverable)
            await self._encode_layers(work, arrived)
            made = [await self._assemble(work, planned) for planned in platforms]
        except ImportFailedError:
            raise
        except Exception as error:  # noqa: BLE001 - the original image is complete
            _log.warning("import.not_compressed", job_id=job.id, error=type(error).__name__)
            return [planned.image for planned in platforms]
        self._metrics.compression_seconds.inc(work.seconds)
        for image in made:
            _log.info("import.compressed", job_id=job.id, seconds=round(work.seconds, 3), **_gain(image))
        return made

    async def _encode_layers(self, work: "_Work", arrived: asyncio.Queue[Descriptor]) -> None:
        diff_ids = await _diff_ids([planned.documents for planned in work.platforms])
        organization = work.job.key.organization
        known = await self._memory.known(organization, list(diff_ids))
        allowance = Allowance(self._max_unpacked_bytes)
        for _ in work.layers:
            work.report_progress()
            layer = await arrived.get()
            if layer.media_type in ENCODABLE and layer.digest in diff_ids:
                diff_id = diff_ids[layer.digest]
                found = await self._recall(work, diff_id, known.get(layer.digest))
                if found is None:
                    found = await self._encode(work, layer, diff_id, allowance)
                work.found[layer.digest] = found
                if found.verified:
                    work.diff_ids[layer.digest] = diff_id
            work.layer_done(layer)

    async def _recall(self, work: "_Work", diff_id: Digest, known: KnownLayer | None) -> EncodedLayer | None:
        """Return the result of an earlier import, if its blob still exists."""
        organization = work.job.key.organization
        if known is None or known.diff_id != diff_id:
            return None
        if known.encoded is not None:
            await self._pins.pin(work.job.id, organization, [known.encoded.digest])
            if not await self._store.contains(organization, known.encoded.digest):
                return None
            if work.deliverable and not await self._store.deliverable(organization, known.encoded.digest):
                await self._store.rekey(organization, known.encoded.digest)
        self._metrics.compressed_layers.labels("known").inc()
        return EncodedLayer(verified=True, content=known.encoded)

    async def _encode(
        self, work: "_Work", layer: Descriptor, diff_id: Digest, allowance: Allowance
    ) -> EncodedLayer:
        async def announce(digest: Digest) -> None:
            await self._pins.pin(work.job.id, work.job.key.organization, [digest])

        began = time.monotonic()
        found = await self._encoder.encode(
            work.job.key.organization,
            layer,
            diff_id,
            allowance=allowance,
            announce=announce,
            progress=work.report_progress,
            deliverable=work.deliverable,
        )
        work.seconds += time.monotonic() - began
        self._metrics.compressed_layers.labels("gained" if found.content else "kept").inc()
        if found.content:
            self._metrics.compression_bytes.labels("before").inc(layer.size_bytes)
            self._metrics.compression_bytes.labels("after").inc(found.content.size_bytes)
        return found

    async def _assemble(self, work: "_Work", planned: PlannedImage) -> StoredImage:
        """Assemble the variant of one platform and store its manifest."""
        image = work.checked(planned.image)
        encoded = work.encoded(planned.documents)
        if not encoded:
            return image
        original = planned.documents.manifest
        descriptors = {of: Descriptor(c.media_type, c.digest, c.size_bytes) for of, c in encoded.items()}
        data = await off_loop(original.data, variant_manifest, original.digest, descriptors)
        digest = Digest.of(data)
        await self._pins.pin(work.job.id, work.job.key.organization, [digest])
        await self._store.put(work.job.key.organization, digest, data)
        manifest = ImageContent(digest, ContentKind.MANIFEST, OCI_MANIFEST, len(data))
        return replace(image, zstd=_variant(image, manifest, encoded))


def _variant(
    image: StoredImage, manifest: ImageContent, encoded: Mapping[Digest, ImageContent]
) -> StoredImage:
    kinds = (ContentKind.CONFIG, ContentKind.LAYER)
    blobs = [encoded.get(content.digest, content) for content in image.contents if content.kind in kinds]
    unique = {content.digest: content for content in blobs}
    return StoredImage(
        digest=manifest.digest,
        manifest_digest=manifest.digest,
        platform=image.platform,
        contents=(manifest, *unique.values()),
        size_bytes=sum(content.size_bytes for content in unique.values()),
        variant=Variant.ZSTD,
    )


@dataclass(slots=True)
class _Work:
    """State of one image in the compressing stage."""

    job: ImportJob
    platforms: Sequence[PlannedImage]
    report: Callable[[Progress], None]
    deliverable: bool
    layers: Sequence[Descriptor] = field(init=False)
    found: dict[Digest, EncodedLayer] = field(default_factory=dict)
    diff_ids: dict[Digest, Digest] = field(default_factory=dict)
    layers_done: int = 0
    bytes_done: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        layers = (layer for planned in self.platforms for layer in planned.documents.image.blobs[1:])
        self.layers = list({layer.digest: layer for layer in layers}.values())

    def report_progress(self, bytes_read: int = 0) -> None:
        total = sum(layer.size_bytes for layer in self.layers)
        read = self.bytes_done + bytes_read
        self.report(Progress(Stage.COMPRESSING, self.layers_done, len(self.layers), read, total))

    def layer_done(self, layer: Descriptor) -> None:
        self.layers_done += 1
        self.bytes_done += layer.size_bytes
        self.report_progress()

    def checked(self, image: StoredImage) -> StoredImage:
        contents = (replace(content, diff_id=self.diff_ids.get(content.digest)) for content in image.contents)
        return replace(image, contents=tuple(contents))

    def encoded(self, documents: ImageDocuments) -> Mapping[Digest, ImageContent]:
        """Return a platform's recompressed layers by the digest of the original."""
        found = {layer.digest: self.found.get(layer.digest) for layer in documents.image.layers}
        return {of: layer.content for of, layer in found.items() if layer is not None and layer.content}


async def _diff_ids(platforms: Sequence[ImageDocuments]) -> Mapping[Digest, Digest]:
    """Return the expected diff_id of each layer; a config without diff_ids adds none.

    Raises:
        PullFailedError: Config and manifest contradict each other, or the configs of two platforms do.
    """
    diff_ids: dict[Digest, Digest] = {}
    for documents in platforms:
        for layer, diff_id in await _diff_ids_of(documents):
            if diff_ids.setdefault(layer.digest, diff_id) != diff_id:
                raise PullFailedError(
                    f"the image's config has two different diff ids for the layer {layer.digest}: "
                    "push the image again"
                )
    return diff_ids


async def _diff_ids_of(documents: ImageDocuments) -> Sequence[tuple[Descriptor, Digest]]:
    try:
        stated = await off_loop(documents.config, parse_diff_ids)
    except DocumentError as error:
        raise PullFailedError(f"{error}: push the image again") from None
    layers = documents.image.layers
    if not stated:
        return []
    if len(stated) != len(layers):
        raise PullFailedError(
            f"the image's config names {len(stated)} layers, its manifest {len(layers)}: push the image again"
        )
    return list(zip(layers, stated, strict=True))


def _gain(image: StoredImage) -> Mapping[str, object]:
    if image.zstd is None:
        return {"digest": str(image.digest), "bytes_before": image.size_bytes, "gain_percent": 0.0}
    return {
        "digest": str(image.digest),
        "zstd_digest": str(image.zstd.digest),
        "bytes_before": image.size_bytes,
        "bytes_after": image.zstd.size_bytes,
        "gain_percent": round(100 * (1 - image.zstd.size_bytes / image.size_bytes), 1),
    }


def _lower_priority() -> None:
    """Lower the priority of this thread; on Linux each thread has its own."""
    thread = threading.get_native_id()
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))
