"""Pull of an image into an OCI image layout on disk, as a node does it (OCI image-spec, image-layout.md).

```
<directory>/oci-layout               {"imageLayoutVersion": "1.0.0"}
<directory>/index.json               references the platform's manifest
<directory>/blobs/<algorithm>/<hex>  written as .<hex>.part, renamed when verified and durable
```
"""

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import aiofiles
from aiofiles.os import makedirs, replace

from registry.errors import PullFailedError
from registry.model.imports import Progress, Stage, UpstreamCredential
from registry.oci import mediatypes
from registry.oci.documents import Descriptor
from registry.oci.platform import LINUX_AMD64, Platform
from registry.oci.reference import Reference
from registry.upstream.client import UpstreamClient
from registry.upstream.image_documents import ImageDocuments, read_documents
from registry.upstream.ranges import Download, DownloadOptions, PrefetchBudget
from registry.upstream.repository import UpstreamRepository
from storage.digest import Digest, Hasher

BATCH_BYTES: Final = 1 << 20
REF_NAME: Final = "org.opencontainers.image.ref.name"
_ONE_CONNECTION: Final = DownloadOptions(PrefetchBudget(0), connections=1)


@dataclass(frozen=True, slots=True)
class PulledImage:
    """A complete image in a layout.

    Attributes:
        digest: Digest of the document that the reference points to; verified even if it is an index.
        manifest_digest: Digest of the platform's manifest, which index.json references.
        size_bytes: Compressed size of config and layers, each digest once.
        fetched_bytes: Size of the layers that were not in the layout before.
        is_reported: Whether Crisper accepted the report that the pull is complete.
    """

    digest: Digest
    manifest_digest: Digest
    platform: str
    size_bytes: int
    fetched_bytes: int
    is_reported: bool = False


async def pull_to_layout(
    client: UpstreamClient,
    reference: Reference,
    credential: UpstreamCredential | None,
    directory: Path,
    progress: Callable[[Progress], None],
    *,
    platform: Platform = LINUX_AMD64,
    token_id: str | None = None,
) -> PulledImage:
    """Pull one platform of an image into a layout. Intact blobs in the layout are kept.

    Every digest and size is verified before a blob gets its final name; index.json is replaced last.

    Args:
        directory: Created if missing; an existing layout loses the other entries of its index.json.
        progress: Called at every step in the event loop; it must not block.
        token_id: Id of the pull token, whose pull is then reported as complete; None for other registries.

    Raises:
        AuthenticationFailedError: The registry refused the credentials.
        PullFailedError: The image does not exist, is not for the platform or is corrupt, or the registry did
            not answer after retries.
        OSError: The directory cannot be written.
    """
    source = await client.open(reference, credential)
    documents = await read_documents(source, platform)
    layout = _Layout(directory, source, documents, progress)
    fetched_bytes = await layout.fill()
    is_reported = token_id is not None and await source.report_complete(token_id)
    size_bytes = sum(blob.size_bytes for blob in documents.image.blobs)
    return PulledImage(
        documents.root.digest,
        documents.manifest.digest,
        str(documents.platform),
        size_bytes,
        fetched_bytes,
        is_reported,
    )


class _Layout:
    def __init__(
        self,
        directory: Path,
        source: UpstreamRepository,
        documents: ImageDocuments,
        progress: Callable[[Progress], None],
    ) -> None:
        self._directory = directory
        self._source = source
        self._documents = documents
        self._progress = progress
        self._layers = documents.image.blobs[1:]
        self._layers_done = self._bytes_done = 0

    async def fill(self) -> int:
        """Fetch the missing layers, and write the documents. Returns the number of fetched layer bytes."""
        documents, fetched = self._documents, 0
        self._report(0)
        for layer in self._layers:
            fetched += await self._layer(layer)
            self._layers_done += 1
            self._report(0)
        config = documents.image.config
        for digest, data in (
            (config.digest, documents.config),
            (documents.manifest.digest, documents.manifest.data),
        ):
            await _write_atomically(self._path(digest), data)
        await self._write_index()
        return fetched

    async def _layer(self, layer: Descriptor) -> int:
        path = self._path(layer.digest)
        if await asyncio.to_thread(_holds, path, layer):
            self._report(layer.size_bytes)
            return 0
        file = await asyncio.to_thread(_PartFile, path, layer)
        try:
            await self._stream(layer, file)
            await asyncio.to_thread(file.commit)
        finally:
            await asyncio.to_thread(file.close)
        return layer.size_bytes

    async def _stream(self, layer: Descriptor, file: "_PartFile") -> None:
        batch = bytearray()
        download = Download(
            self._source, layer, 0, _ONE_CONNECTION, _ONE_CONNECTION.minimum_rate(self._source.reference.host)
        )
        async with aclosing(download.chunks()) as chunks:
            async for chunk in chunks:
                batch += chunk
                self._report(len(chunk))
                if len(batch) >= BATCH_BYTES:
                    await asyncio.to_thread(file.write, batch)
                    batch = bytearray()
        await asyncio.to_thread(file.write, batch)

    def _report(self, count: int) -> None:
        self._bytes_done += count
        total = sum(layer.size_bytes for layer in self._layers)
        self._progress(Progress(Stage.PULLING, self._layers_done, len(self._layers), self._bytes_done, total))

    def _path(self, digest: Digest) -> Path:
        return self._directory / "blobs" / digest.algorithm / digest.hex

    async def _write_index(self) -> None:
        manifest = self._documents.manifest.descriptor
        entry = {
            "mediaType": manifest.media_type,
            "digest": str(manifest.digest),
            "size": manifest.size_bytes,
            "annotations": {REF_NAME: self._source.reference.tag or "latest"},
        }
        index = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": [entry]}
        await _write_atomically(self._directory / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        await _write_atomically(self._directory / "index.json", json.dumps(index).encode())


class _PartFile:
    """A partially written blob. Blocking: for worker threads only."""

    def __init__(self, path: Path, blob: Descriptor) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._part = path.with_name(f".{path.name}.part")
        self._digest = blob.digest
        self._hasher: Hasher = blob.digest.hasher()
        self._file: BinaryIO = self._part.open("wb")

    def write(self, data: bytes | bytearray) -> None:
        self._hasher.update(data)
        self._file.write(data)

    def commit(self) -> None:
        if self._hasher.hexdigest() != self._digest.hex:
            raise PullFailedError(
                f"the registry sent other bytes for the layer {self._digest} than its digest says"
            )
        self._file.flush()
        os.fsync(self._file.fileno())
        self._part.replace(self._path)

    def close(self) -> None:
        self._file.close()
        self._part.unlink(missing_ok=True)


def _holds(path: Path, blob: Descriptor) -> bool:
    """Return whether a file exists and matches the blob's size and digest."""
    try:
        if path.stat().st_size != blob.size_bytes:
            return False
        hasher = blob.digest.hasher()
        with path.open("rb") as file:
            while data := file.read(BATCH_BYTES):
                hasher.update(data)
    except FileNotFoundError:
        return False
    return hasher.hexdigest() == blob.digest.hex


async def _write_atomically(path: Path, data: bytes) -> None:
    await makedirs(path.parent, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    async with aiofiles.open(part, "wb") as file:
        await file.write(data)
        await file.flush()
        await asyncio.to_thread(os.fsync, file.fileno())
    await replace(part, path)
