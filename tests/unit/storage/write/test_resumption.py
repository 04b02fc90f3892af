"""A writer that is stopped or dies leaves what it sealed; the next one reads it back and goes on."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.backends.local import LocalBackend
from storage.blobs import BlobStore
from storage.digest import Digest
from storage.errors import DigestMismatchError
from storage.keys.local import LocalKeyring
from storage.records import KeyRecord
from tests.support.blobs import FORMATS, DeliverableStore, get
from tests.support.key_records import MemoryKeyRecords, MemoryPartials

DATA = random.Random(5).randbytes(9 << 20)
DIGEST = Digest.of(DATA)
SEGMENT = 1 << 18
BATCHES = 4 << 20  # what a writer that dies may hold


@pytest.fixture
def partials() -> MemoryPartials:
    return MemoryPartials()


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    return tmp_path / "blobs" / "incoming"


@pytest.fixture
async def store(
    tmp_path: Path,
    keyring: LocalKeyring,
    records: MemoryKeyRecords,
    partials: MemoryPartials,
    store_type: type[BlobStore],
) -> AsyncIterator[BlobStore]:
    backend = LocalBackend(tmp_path / "blobs")
    made = store_type(
        backend, keyring, records, keyring.name_key, partials=partials, partials_from_bytes=1 << 20
    )
    yield made
    await made.aclose()


def left(incoming: Path) -> list[Path]:
    return list(incoming.iterdir())


async def interrupted(store: BlobStore, end: int, data: bytes = DATA, **options: bool) -> None:
    async with store.ingest("acme", DIGEST, len(DATA), **options) as writer:
        for at in range(writer.written_bytes, end, 1 << 18):
            await writer.write(data[at : min(at + (1 << 18), end)])
        raise asyncio.CancelledError


async def completed(store: BlobStore) -> int:
    """Ingest the rest; return how much was there already."""
    async with store.ingest("acme", DIGEST, len(DATA)) as writer:
        resumed = writer.resumed_bytes
        await writer.write(DATA[resumed:])
        await writer.commit()
    return resumed


@pytest.mark.parametrize("end", [7_654_321, len(DATA)])
async def test_what_a_stopped_writer_sealed_is_not_written_again_by_its_caller(
    store: BlobStore, partials: MemoryPartials, incoming: Path, end: int
) -> None:
    with pytest.raises(asyncio.CancelledError):
        await interrupted(store, end)
    assert await completed(store) >= end - BATCHES - SEGMENT
    assert await get(store, "acme", DIGEST) == DATA
    assert partials.rows == {}
    assert left(incoming) == []


async def test_a_blob_that_is_stopped_again_and_again_gets_further_each_time(
    store: BlobStore, incoming: Path
) -> None:
    for end in range(7 << 20, 9 << 20, 1 << 19):
        with pytest.raises(asyncio.CancelledError):
            await interrupted(store, end)
        assert len(left(incoming)) == 1
    assert await completed(store) >= (8 << 20) - BATCHES
    assert await get(store, "acme", DIGEST) == DATA


async def test_recovery_spares_resumable_partials_until_they_are_given_up(
    store: BlobStore, partials: MemoryPartials, incoming: Path
) -> None:
    with pytest.raises(asyncio.CancelledError):
        await interrupted(store, 8 << 20)
    assert await store.recover() == 0
    partials.rows.clear()
    assert await store.recover() == 1
    assert left(incoming) == []
    assert await completed(store) == 0


@pytest.mark.parametrize("store_type", [BlobStore])
async def test_a_damaged_tail_is_left_out_and_a_damaged_start_left_alone(
    store: BlobStore, incoming: Path
) -> None:
    for at, least, most in ((4 << 20, 3 << 20, 4 << 20), (70, 0, 0)):
        with pytest.raises(asyncio.CancelledError):
            await interrupted(store, 8 << 20)
        (file,) = left(incoming)
        data = bytearray(file.read_bytes())
        data[at] ^= 1
        file.write_bytes(data)
        async with store.ingest("acme", DIGEST, len(DATA)) as writer:
            assert least <= writer.resumed_bytes <= most
    assert await completed(store) == 0
    assert await get(store, "acme", DIGEST) == DATA


@pytest.mark.parametrize("store_type", [DeliverableStore])
@pytest.mark.parametrize("at", [0, 70, 4 << 20])
async def test_damage_to_resumed_ciphertext_is_found_at_the_commit_and_not_resumed_again(
    store: BlobStore, partials: MemoryPartials, incoming: Path, at: int
) -> None:
    with pytest.raises(asyncio.CancelledError):
        await interrupted(store, 8 << 20)
    (file,) = left(incoming)
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)
    with pytest.raises(DigestMismatchError):
        await completed(store)
    assert (partials.rows, left(incoming)) == ({}, [])
    assert await completed(store) == 0
    assert await get(store, "acme", DIGEST) == DATA


@pytest.mark.parametrize("first", FORMATS)
async def test_a_blob_that_was_begun_in_one_format_is_resumed_in_the_other(
    store: BlobStore, incoming: Path, first: str
) -> None:
    begun_deliverable = first == "oeb2"
    with pytest.raises(asyncio.CancelledError):
        await interrupted(store, 8 << 20, deliverable=begun_deliverable)
    async with store.ingest("acme", DIGEST, len(DATA), deliverable=not begun_deliverable) as writer:
        assert writer.resumed_bytes >= (8 << 20) - BATCHES - SEGMENT
        await writer.write(DATA[writer.resumed_bytes :])
        record = await writer.commit()
    assert record.deliverable is not begun_deliverable
    assert await get(store, "acme", DIGEST) == DATA
    assert left(incoming) == []


async def test_no_byte_of_an_unfinished_container_is_used_in_the_next(
    store: BlobStore, incoming: Path, records: MemoryKeyRecords, tmp_path: Path
) -> None:
    with pytest.raises(asyncio.CancelledError):
        await interrupted(store, 8 << 20)
    (file,) = left(incoming)
    unfinished, name = file.read_bytes(), file.name
    assert await completed(store) > 0
    record = records.rows["acme", DIGEST]
    stored = (tmp_path / "blobs/objects" / record.object_name[:2] / record.object_name).read_bytes()
    assert record.object_name != name
    assert not any(unfinished[at : at + 16] in stored for at in range(1 << 17, len(unfinished) - 16, 1 << 17))


async def test_nothing_of_the_plaintext_is_in_what_is_left(store: BlobStore, incoming: Path) -> None:
    marked = DATA[: 2 << 20] + b"a customer's secret " * 1000 + DATA[2 << 20 :]
    with pytest.raises(asyncio.CancelledError):
        await interrupted(store, 8 << 20, marked)
    (file,) = left(incoming)
    assert b"a customer's secret" not in file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600


async def test_another_tenant_does_not_go_on_with_it(store: BlobStore) -> None:
    with pytest.raises(asyncio.CancelledError):
        await interrupted(store, 8 << 20)
    async with store.ingest("rival", DIGEST, len(DATA)) as writer:
        assert writer.written_bytes == 0


async def test_resumed_bytes_that_were_wrong_are_refused_and_forgotten(
    store: BlobStore, partials: MemoryPartials, incoming: Path
) -> None:
    with pytest.raises(asyncio.CancelledError):
        await interrupted(store, 8 << 20, b"!" + DATA[1:])
    with pytest.raises(DigestMismatchError):
        await completed(store)
    assert (partials.rows, left(incoming)) == ({}, [])
    assert await completed(store) == 0


async def test_a_writer_that_lives_keeps_its_container_to_itself(
    store: BlobStore, partials: MemoryPartials
) -> None:
    async with store.ingest("acme", DIGEST, len(DATA)) as first:
        for at in range(0, 8 << 20, 1 << 20):
            await first.write(DATA[at : at + (1 << 20)])
        noted: KeyRecord = partials.rows["acme", DIGEST]
        async with store.ingest("acme", DIGEST, len(DATA)) as second:
            assert second.written_bytes == 0
        assert partials.rows["acme", DIGEST] == noted
        await first.write(DATA[8 << 20 :])
        await first.commit()
    assert await get(store, "acme", DIGEST) == DATA
