"""Images through the compressing stage, over storage in memory."""

import asyncio
import gzip
import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
import zstandard

from registry.catalog.engine.database import Database
from registry.catalog.images import SqlKnownLayers, enter_image
from registry.errors import PullFailedError
from registry.imports.plan import plan_import
from registry.imports.recompress import encode
from registry.imports.recompress.pipeline import Compression, Compressor
from registry.model.groups import GroupKey
from registry.model.images import ContentKind, StoredImage, Variant
from registry.model.imports import ImportJob, Progress, Stage
from registry.observe import Metrics
from registry.oci.documents import Descriptor, Manifest, parse_document
from registry.oci.platform import LINUX_AMD64
from registry.oci.seekable import FRAME_BYTES, compress_frame
from registry.oci.variant import OCI_ZSTD_LAYER
from registry.upstream.image_documents import ImageDocuments
from registry.upstream.repository import Document
from storage.backends.memory import MemoryBackend
from storage.blobs import BlobStore
from storage.digest import Digest
from storage.errors import StorageFullError
from storage.keys.local import LocalKeyring
from tests.support import images
from tests.support.catalogs import sqlite_catalog
from tests.support.key_records import MemoryKeyRecords
from tests.support.pins import MemoryPins

MIB = 1 << 20
JOB = ImportJob("job-1", "group-1", GroupKey("acme", "shop", "web"), version=1, image="app", attempt=1)
HOW = Compression(level=3, threads=2, min_gain=0.02, max_unpacked_bytes=1 << 30)


def text(seed: int, size: int = MIB) -> bytes:
    """Words in no order: gzip at level 1 leaves more of them than zstd does."""
    words = [Random(n).randbytes(6).hex() for n in range(400)]
    return " ".join(Random(seed).choices(words, k=size // 13)).encode()


def gzipped(tar: bytes) -> images.Layer:
    return images.Layer(tar, gzip.compress(tar, 1, mtime=0))


@dataclass
class Press:
    """The stage, and what it told of."""

    store: BlobStore
    database: Database
    pins: MemoryPins = field(default_factory=MemoryPins)
    metrics: Metrics = field(default_factory=Metrics)
    reports: list[Progress] = field(default_factory=list)

    @property
    def memory(self) -> SqlKnownLayers:
        return SqlKnownLayers(self.database)

    async def learn(self, image: StoredImage) -> None:
        """Enter an image into the catalog, from which later imports know its layers."""
        async with self.database.write() as connection:
            await enter_image(connection, "acme", image, datetime.now(UTC))

    async def run(
        self,
        image: images.Image,
        how: Compression = HOW,
        arrived: asyncio.Queue[Descriptor] | None = None,
    ) -> StoredImage:
        """Run the stage; its layers have all arrived, unless `arrived` brings them."""
        manifest = Document(image.manifest, Digest.parse(image.digest), parse_document(image.manifest))
        assert isinstance(manifest.parsed, Manifest)
        config = image.blobs[str(manifest.parsed.config.digest)]
        documents = ImageDocuments((), manifest, config, LINUX_AMD64)
        for digest, blob in image.blobs.items():
            await self.store.put("acme", Digest.parse(digest), blob)
        compressor = Compressor(self.store, self.pins, self.memory, self.metrics, how)
        try:
            plan = plan_import([documents], 1 << 40)
            if arrived is None:
                arrived = asyncio.Queue()
                for layer in plan.layers:
                    arrived.put_nowait(layer)
            (stored,) = await compressor.run(JOB, plan.platforms, arrived, self.reports.append)
            return stored
        finally:
            compressor.close()

    async def read(self, digest: Digest) -> bytes:
        async with await self.store.open("acme", digest) as reader:
            return b"".join([bytes(part) async for part in reader.stream()])

    async def layers(self, image: StoredImage) -> list[bytes]:
        """Return the layers that a variant's manifest names, unpacked."""
        parsed = parse_document(await self.read(image.digest))
        assert isinstance(parsed, Manifest)
        packed = [(layer, await self.read(layer.digest)) for layer in parsed.layers]
        assert all(layer.size_bytes == len(blob) for layer, blob in packed)
        return [
            _from_zstd(blob) if layer.media_type == OCI_ZSTD_LAYER else gzip.decompress(blob)
            for layer, blob in packed
        ]

    def outcomes(self) -> dict[str, float]:
        lines = self.metrics.render().decode().splitlines()
        found = [line.partition("} ") for line in lines if line.startswith("crisper_compressed_layers_total")]
        return {head.partition('outcome="')[2].rstrip('"'): float(value) for head, _, value in found}


def _from_zstd(blob: bytes) -> bytes:
    reader = zstandard.ZstdDecompressor().stream_reader(blob, read_across_frames=True)
    return b"".join(iter(lambda: reader.read(MIB), b""))


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Press]:
    keys = LocalKeyring.create(tmp_path / "keyring.json")
    store = BlobStore(MemoryBackend(), keys, MemoryKeyRecords(), keys.name_key)
    database = await sqlite_catalog(tmp_path)
    yield Press(store, database)
    await database.close()
    await store.aclose()


async def test_layers_that_gain_are_kept_in_zstd_beside_the_original(stage: Press) -> None:
    tars = [text(1, 9 * MIB), text(2), Random(3).randbytes(MIB)]
    image = images.build("app", [gzipped(tar) for tar in tars], docker=True)
    found = await stage.run(image)
    assert found.zstd is not None
    assert found.zstd.variant is Variant.ZSTD
    assert await stage.layers(found.zstd) == tars
    kinds = [content.media_type for content in found.zstd.contents if content.kind is ContentKind.LAYER]
    assert kinds == [OCI_ZSTD_LAYER, OCI_ZSTD_LAYER, images.DOCKER_LAYER]
    assert [str(c.diff_id) for c in found.contents if c.kind is ContentKind.LAYER] == [
        layer.diff_id for layer in image.layers
    ]
    sizes = found.zstd.platform_blobs
    assert found.zstd.size_bytes == sum(sizes.values()) < found.size_bytes
    assert set(sizes) & set(found.platform_blobs) == {
        str(c.digest) for c in found.contents if c.kind is ContentKind.CONFIG
    } | {images.digest_of(image.layers[2].gzipped)}
    assert {content.digest for content in found.zstd.contents} - stage.pins.pinned[JOB.id] == {
        c.digest for c in found.contents if c.digest in {d.digest for d in found.zstd.contents}
    }
    assert stage.outcomes() == {"gained": 2, "kept": 1}


async def test_the_encoding_is_the_same_at_every_run_and_its_frames_stand_alone(
    stage: Press,
) -> None:
    image = images.build("app", [gzipped(text(1, 9 * MIB))])
    first = await stage.run(image)
    again = await stage.run(image, replace(HOW, threads=1))
    assert first.zstd is not None
    assert again == first
    [blob] = [await stage.read(c.digest) for c in first.zstd.contents if c.media_type == OCI_ZSTD_LAYER]
    frames = (len(image.layers[0].tar) + FRAME_BYTES - 1) // FRAME_BYTES
    assert blob.count(b"\x28\xb5\x2f\xfd") == frames == 3
    assert zstandard.get_frame_parameters(blob).window_size <= FRAME_BYTES


async def test_its_threads_give_way_to_others_and_no_other_thread_does(stage: Press) -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = niceness()
    compressor = Compressor(stage.store, stage.pins, stage.memory, stage.metrics, HOW)
    given = compressor._executor.submit(niceness).result()
    compressor.close()
    assert given == max(before, 10)
    assert niceness() == before


async def test_progress_is_told_by_layer(stage: Press) -> None:
    await stage.run(images.build("app", [gzipped(text(n)) for n in range(3)]))
    assert {report.stage for report in stage.reports} == {Stage.COMPRESSING}
    told = list(dict.fromkeys(map(str, stage.reports)))
    assert told == [f"compressing: {n} of 3 layers" for n in range(4)]
    assert [r.bytes_done for r in stage.reports] == sorted(r.bytes_done for r in stage.reports)
    assert stage.reports[-1].bytes_done == stage.reports[-1].bytes_total


async def test_layers_are_taken_as_they_arrive_in_any_order(stage: Press) -> None:
    image = images.build("app", [gzipped(text(n)) for n in range(2)])
    parsed = parse_document(image.manifest)
    assert isinstance(parsed, Manifest)
    arrived: asyncio.Queue[Descriptor] = asyncio.Queue()
    running = asyncio.create_task(stage.run(image, arrived=arrived))
    for count, layer in enumerate(reversed(parsed.layers), 1):
        arrived.put_nowait(layer)
        async with asyncio.timeout(20):
            while not stage.reports or stage.reports[-1].layers_done < count:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    found = await running
    assert found.zstd is not None
    assert [str(c.diff_id) for c in found.contents[-2:]] == [layer.diff_id for layer in image.layers]


async def test_an_image_that_does_not_gain_has_no_variant_but_is_checked(stage: Press) -> None:
    image = images.build("app", [images.Layer.raw(Random(1).randbytes(MIB))])
    found = await stage.run(image)
    assert found.zstd is None
    assert str(found.contents[-1].diff_id) == image.layers[0].diff_id


async def test_layers_in_zstd_already_are_checked_and_stay(stage: Press) -> None:
    tar = text(1)
    image = images.build("app", [images.Layer(tar, zstandard.compress(tar, 1))])
    found = await stage.run(image)
    assert found.zstd is None
    assert str(found.contents[-1].diff_id) == image.layers[0].diff_id
    lying = images.build("app", [images.Layer(tar + b"!", zstandard.compress(tar, 1))])
    with pytest.raises(PullFailedError):
        await stage.run(lying)


async def test_a_layer_that_does_not_shrink_is_given_up_early(
    stage: Press, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "TRIAL_BYTES", 5 * MIB)
    compressed: list[int] = []
    compress = compress_frame

    def counted(piece: bytes, level: int) -> bytes:
        compressed.append(len(piece))
        return compress(piece, level)

    monkeypatch.setattr(encode, "compress_frame", counted)
    tar = Random(1).randbytes(40 * MIB)
    found = await stage.run(images.build("app", [images.Layer.raw(tar)]))
    assert found.zstd is None
    assert found.contents[-1].diff_id == Digest.of(tar)
    assert 2 <= len(compressed) <= 6


async def test_a_layer_is_not_encoded_twice_while_its_encoding_is_there(stage: Press) -> None:
    image = images.build("app", [gzipped(text(1)), gzipped(Random(2).randbytes(MIB))])
    first = await stage.run(image)
    await stage.learn(first)
    assert await stage.run(image) == first
    assert stage.outcomes() == {"gained": 1, "kept": 1, "known": 2}
    assert first.zstd is not None
    [encoded] = [c.digest for c in first.zstd.contents if c.media_type == OCI_ZSTD_LAYER]
    await stage.store.delete("acme", encoded)
    assert await stage.run(image) == first
    assert stage.outcomes() == {"gained": 2, "kept": 1, "known": 3}
    assert await stage.store.contains("acme", encoded)


async def test_a_lying_config_is_refused_though_an_earlier_one_was_right(stage: Press) -> None:
    right = gzipped(text(1))
    await stage.learn(await stage.run(images.build("app", [right])))
    wrong = images.build("app", [images.Layer(b"something else", right.gzipped)])
    with pytest.raises(PullFailedError, match=str(Digest.of(b"something else"))):
        await stage.run(wrong)


def with_diff_ids(image: images.Image, diff_ids: list[str]) -> images.Image:
    manifest = json.loads(image.manifest)
    blobs = dict(image.blobs)
    config = json.loads(blobs.pop(manifest["config"]["digest"]))
    config["rootfs"]["diff_ids"] = diff_ids
    data = json.dumps(config).encode()
    manifest["config"] |= {"digest": images.digest_of(data), "size": len(data)}
    blobs[images.digest_of(data)] = data
    return replace(image, manifest=json.dumps(manifest).encode(), blobs=blobs)


async def test_a_config_without_diff_ids_leaves_the_image_unchanged(stage: Press) -> None:
    found = await stage.run(with_diff_ids(images.build("app", [gzipped(text(1))]), []))
    assert found.zstd is None
    assert found.contents[-1].diff_id is None


async def test_a_config_that_contradicts_its_manifest_is_refused(stage: Press) -> None:
    layer = gzipped(text(1))
    with pytest.raises(PullFailedError, match="names 1 layers, its manifest 2"):
        await stage.run(with_diff_ids(images.build("app", [layer, layer]), [layer.diff_id]))
    other = images.digest_of(b"other")
    with pytest.raises(PullFailedError, match="has two different diff ids"):
        await stage.run(with_diff_ids(images.build("app", [layer, layer]), [layer.diff_id, other]))


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
async def test_a_bomb_fails_the_import(stage: Press, pack: Callable[[bytes], bytes]) -> None:
    tar = bytes(20 * MIB)
    image = images.build("app", [images.Layer(tar, pack(tar))])
    with pytest.raises(PullFailedError, match="unpacks to more than is allowed"):
        await stage.run(image, replace(HOW, max_unpacked_bytes=10 * MIB))


async def test_full_storage_costs_the_image_only_its_variant(
    stage: Press, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> object:
        raise StorageFullError("no room")

    monkeypatch.setattr(stage.store, "derive", full)
    image = images.build("app", [gzipped(text(1))])
    found = await stage.run(image)
    assert found.zstd is None
    assert found.digest == Digest.parse(image.digest)
