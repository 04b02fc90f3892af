"""Imports that continue an interrupted layer, of which storage kept a part."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.backends.local import LocalBackend
from storage.backends.memory import MemoryBackend
from storage.blobs import BlobStore
from storage.digest import Digest
from storage.keys.local import LocalKeyring
from tests.integration.upstream.conftest import Bench
from tests.support.blobs import FORMATS
from tests.support.distribution import digest_of, make_image
from tests.support.key_records import MemoryKeyRecords, MemoryPartials
from tests.support.upstream_faults import FaultyUpstream

LAYER = random.Random(20).randbytes(9 << 20)
IMAGE = make_image([LAYER])
DIGEST = Digest.parse(digest_of(LAYER))


@pytest.fixture(params=FORMATS)
async def store(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[BlobStore]:
    blobs = FORMATS[request.param](
        LocalBackend(tmp_path / "blobs"),
        LocalKeyring.create(tmp_path / "keyring.json"),
        MemoryKeyRecords(),
        secrets.token_bytes(32),
        partials=MemoryPartials(),
        partials_from_bytes=1 << 20,
    )
    yield blobs
    await blobs.aclose()


async def interrupt(store: BlobStore) -> None:
    async with store.ingest("acme", DIGEST, len(LAYER)) as writer:
        for at in range(0, 8 << 20, 1 << 20):
            await writer.write(LAYER[at : at + (1 << 20)])
        raise asyncio.CancelledError


@pytest.mark.parametrize("damaged_at", [None, 0, 5 << 20])
async def test_an_import_continues_a_layer_and_survives_damage_to_what_was_kept(
    store: BlobStore, upstream: FaultyUpstream, tmp_path: Path, damaged_at: int | None
) -> None:
    with pytest.raises(asyncio.CancelledError):
        await interrupt(store)
    (kept,) = (tmp_path / "blobs" / "incoming").iterdir()
    if damaged_at is not None:
        data = bytearray(kept.read_bytes())
        data[damaged_at] ^= 1
        kept.write_bytes(data)
    upstream.add(IMAGE)
    bench = Bench(store, MemoryBackend())
    await bench.run(f"{upstream.host}/app:1")
    await bench.holds(IMAGE)
    await store.verify("acme", DIGEST)
    assert bench.reports[-1].bytes_done == len(LAYER)
    assert list((tmp_path / "blobs" / "incoming").iterdir()) == []
    if damaged_at is None:
        asked = [seen.range or "" for seen in upstream.seen if seen.path.endswith(str(DIGEST))]
        starts = [int(text.removeprefix("bytes=").partition("-")[0]) for text in asked]
        assert starts
        assert min(starts) > len(LAYER) // 4
