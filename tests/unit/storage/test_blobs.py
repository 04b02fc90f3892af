import asyncio
from dataclasses import replace

import pytest

from storage.backends.memory import MemoryBackend, MemoryObjectReader
from storage.blobs import BlobStore
from storage.digest import Digest, Hashes
from storage.errors import (
    BlobDamagedError,
    BlobMissingError,
    BlobNotFoundError,
    BlobRangeError,
    DigestMismatchError,
    KeyUnavailableError,
)
from storage.keys.local import LocalKeyring
from storage.read.recent import RecentRecords
from storage.records import KeyRecord
from storage.upkeep.gc import Collector
from storage.write.naming import ObjectNaming
from tests.support.blobs import get, put, sha512
from tests.support.containers import noise, text
from tests.support.key_records import MemoryKeyRecords, NothingDies, check_lease

NOISE = noise(500_000)
TEXT = text(500_000)


@pytest.mark.parametrize("data", [b"", b"x", NOISE, TEXT], ids=["empty", "tiny", "noise", "text"])
async def test_a_blob_comes_back_as_it_went_in(store: BlobStore, data: bytes) -> None:
    record = await put(store, "acme", data)
    assert await get(store, "acme", record.digest) == data
    assert (record.size_bytes, await store.stat("acme", record.digest)) == (len(data), record)
    await store.verify("acme", record.digest)


async def test_a_blob_larger_than_the_codecs_sample_comes_back_in_ranges(store: BlobStore) -> None:
    for data in (noise(6_000_000), text(6_000_000)):
        record = await put(store, "acme", data, piece=1_500_000)
        assert await get(store, "acme", record.digest) == data
        assert await get(store, "acme", record.digest, 4_194_300, 70_000) == data[4_194_300:4_264_300]


async def test_a_small_blob_is_put_whole_and_once(store: BlobStore, backend: MemoryBackend) -> None:
    digest = Digest.of(TEXT)
    for _ in range(2):
        await store.put("acme", digest, TEXT)
    assert await get(store, "acme", digest) == TEXT
    record = await store.stat("acme", digest)
    assert record is not None
    assert set(backend.objects) == set(record.objects)
    with pytest.raises(DigestMismatchError):
        await store.put("acme", Digest.of(NOISE), TEXT)


async def test_neither_plaintext_nor_digest_is_found_in_storage(
    store: BlobStore, backend: MemoryBackend
) -> None:
    record = await put(store, "acme", NOISE)
    stored = backend.objects[record.object_name]
    assert record.objects == {name: len(data) for name, data in backend.objects.items()}
    assert not any(NOISE[at : at + 16] in stored for at in range(0, len(NOISE), 50_000))
    assert record.digest.hex not in record.object_name
    assert bytes.fromhex(record.digest.hex) not in stored


async def test_ranges_through_stream_read_at_and_read_into_agree(store: BlobStore) -> None:
    digest = (await put(store, "acme", NOISE)).digest
    async with await store.open("acme", digest) as reader:
        assert reader.size_bytes == len(NOISE)
        assert reader.digest == digest
        assert reader.read_at(65_000, 1_000) == NOISE[65_000:66_000]
        buffer = bytearray(100)
        assert reader.read_into(len(NOISE) - 40, buffer) == 40
        assert buffer[:40] == NOISE[-40:]
        assert [chunk async for chunk in reader.stream(len(NOISE))] == []
        for start, length in ((-1, 1), (0, -1), (len(NOISE), 1), (0, len(NOISE) + 1)):
            with pytest.raises(BlobRangeError):
                reader.read_at(start, length)
            with pytest.raises(BlobRangeError):
                await anext(reader.stream(start, length))


async def test_a_stream_that_is_left_early_leaves_nothing_running(store: BlobStore) -> None:
    digest = (await put(store, "acme", NOISE)).digest
    async with await store.open("acme", digest) as reader:
        stream = reader.stream(chunk_bytes=1)
        first = await anext(stream)
        await stream.aclose()
        assert bytes(first) == NOISE[: len(first)]
        assert reader._running == set()


async def test_a_tenant_opens_only_its_own_blobs(store: BlobStore) -> None:
    digest = (await put(store, "acme", NOISE)).digest
    assert await store.contains("acme", digest)
    assert not await store.contains("umbrella", digest)
    with pytest.raises(BlobNotFoundError):
        await store.open("umbrella", digest)


async def test_a_second_tenant_that_presents_the_blob_shares_the_object(
    store: BlobStore, backend: MemoryBackend
) -> None:
    first = await put(store, "acme", NOISE)
    second = await put(store, "umbrella", NOISE)
    assert second.object_name == first.object_name
    assert second.wrapped_dek != first.wrapped_dek
    assert set(backend.objects) == set(first.objects)
    assert await store.delete("acme", first.digest)
    with pytest.raises(BlobNotFoundError):
        await store.open("acme", first.digest)
    assert await get(store, "umbrella", first.digest) == NOISE
    assert await store.delete("umbrella", first.digest)
    assert not await store.delete("umbrella", first.digest)
    assert backend.objects == {}


async def test_a_tenant_that_presents_a_blob_again_keeps_its_record(
    store: BlobStore, backend: MemoryBackend
) -> None:
    first = await put(store, "acme", NOISE)
    assert await put(store, "acme", NOISE) == first
    assert set(backend.objects) == set(first.objects)


async def test_racing_imports_of_one_blob_all_end_with_a_blob_that_opens(
    store: BlobStore, backend: MemoryBackend
) -> None:
    tenants = [f"tenant-{n % 3}" for n in range(12)]
    stood = await asyncio.gather(*(put(store, tenant, NOISE) for tenant in tenants))
    assert len(set(stood)) == 3
    assert set(backend.objects) == set(stood[0].objects)
    for tenant in tenants:
        assert await get(store, tenant, stood[0].digest) == NOISE


async def test_stores_that_race_over_one_catalog_keep_every_record_readable(
    backend: MemoryBackend,
    keyring: LocalKeyring,
    records: MemoryKeyRecords,
    store_type: type[BlobStore],
) -> None:
    stores = [store_type(backend, keyring, records, keyring.name_key, segment_log2=16) for _ in range(4)]
    for _ in range(10):
        await asyncio.gather(*(put(store, f"tenant-{n % 2}", NOISE) for n, store in enumerate(stores)))
        digest = Digest.of(NOISE)
        assert await get(stores[0], "tenant-0", digest) == await get(stores[1], "tenant-1", digest) == NOISE
        assert set(backend.objects) == {name for row in records.rows.values() for name in row.objects}
        await asyncio.gather(*(stores[n].delete(f"tenant-{n}", digest) for n in (0, 1)))
        assert backend.objects == {}
    for store in stores:
        await store.aclose()


async def test_a_link_to_a_deleted_object_falls_back_to_an_own_object(
    store: BlobStore, backend: MemoryBackend, records: MemoryKeyRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent = await put(store, "acme", NOISE)
    genuine = records.add

    async def add_while_the_lender_deletes(record: object, replaces: object) -> object:
        # Another process removes the record and the object, having counted uses before ours was there.
        if records.rows.pop(("acme", lent.digest), None):
            backend.objects.pop(lent.object_name)
        return await genuine(record, replaces)  # type: ignore[arg-type]

    monkeypatch.setattr(records, "add", add_while_the_lender_deletes)
    ours = await put(store, "umbrella", NOISE)
    assert ours.object_name != lent.object_name
    assert await get(store, "umbrella", ours.digest) == NOISE


async def test_a_blob_whose_only_lender_lost_its_key_is_stored_again(
    backend: MemoryBackend, keyring: LocalKeyring, records: MemoryKeyRecords, store: BlobStore
) -> None:
    lost = await put(store, "acme", NOISE)
    assert await keyring.destroy("acme") == 1
    restarted = type(store)(backend, keyring, records, keyring.name_key, segment_log2=16)
    ours = await put(restarted, "umbrella", NOISE)
    assert ours.object_name != lost.object_name
    assert await get(restarted, "umbrella", ours.digest) == NOISE
    await restarted.aclose()


async def test_a_container_that_differs_from_its_record_fails_verification(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only a writer that holds the keys can make one: here, one that does not check what it ingests.
    digest = sha512(b"promised")
    with monkeypatch.context() as careless:
        careless.setattr(Hashes, "check", lambda _self: bytes(32))
        async with store.ingest("acme", digest) as writer:
            await writer.write(b"delivered")
            await writer.commit()
    assert await get(store, "acme", digest) == b"delivered"
    with pytest.raises(BlobDamagedError, match="another blob"):
        await store.verify("acme", digest)


async def test_a_damaged_object_is_replaced_when_the_blob_is_ingested_again(
    store: BlobStore, backend: MemoryBackend
) -> None:
    first = await put(store, "acme", NOISE)
    backend.objects[first.object_name] = backend.objects[first.object_name][:-1]
    with pytest.raises(BlobDamagedError):
        await store.open("acme", first.digest)
    second = await put(store, "umbrella", NOISE)
    again = await put(store, "acme", NOISE)
    assert again.object_name == second.object_name != first.object_name
    assert await get(store, "acme", first.digest) == NOISE
    assert set(backend.objects) == set(second.objects)


async def test_damage_inside_a_blob_ends_the_stream_before_a_bad_byte(
    store: BlobStore, backend: MemoryBackend
) -> None:
    record = await put(store, "acme", NOISE)
    stored = bytearray(backend.objects[record.object_name])
    stored[300_000] ^= 1
    backend.objects[record.object_name] = bytes(stored)
    received = bytearray()

    async def receive() -> None:
        async with await store.open("acme", record.digest) as reader:
            async for chunk in reader.stream(chunk_bytes=1 << 16):
                received.extend(chunk)

    with pytest.raises(BlobDamagedError, match="segment 4"):
        await receive()
    assert 0 < len(received) < 300_000
    assert received == NOISE[: len(received)]
    with pytest.raises(BlobDamagedError):
        await store.verify("acme", record.digest)


async def test_a_record_that_names_another_blobs_container_opens_nothing(
    store: BlobStore, records: MemoryKeyRecords
) -> None:
    one, two = await put(store, "acme", NOISE), await put(store, "acme", TEXT)
    forged = [
        replace(one, object_name=two.object_name),
        replace(one, digest=two.digest),
        replace(two, digest=one.digest),
        replace(one, tenant="umbrella"),
        replace(one, file_id=two.file_id, object_name=two.object_name),
    ]
    for record in forged:
        records.rows = {(record.tenant, record.digest): record}
        with pytest.raises(BlobDamagedError):
            await get(store, record.tenant, record.digest)


async def test_sha512_blobs_are_verified_on_the_way_in_and_bound_by_their_record(
    store: BlobStore, records: MemoryKeyRecords
) -> None:
    digest = sha512(NOISE)
    async with store.ingest("acme", digest) as writer:
        await writer.write(NOISE)
        record = await writer.commit()
    assert await get(store, "acme", digest) == NOISE
    await store.verify("acme", digest)
    records.rows = {("acme", sha512(b"other")): replace(record, digest=sha512(b"other"))}
    with pytest.raises(BlobDamagedError):
        await store.open("acme", sha512(b"other"))


async def test_blobs_stay_readable_over_a_rotation_and_are_gone_with_their_key(
    store: BlobStore, keyring: LocalKeyring, backend: MemoryBackend, records: MemoryKeyRecords
) -> None:
    old = await put(store, "acme", NOISE)
    await keyring.rotate("acme")
    new = await put(store, "acme", TEXT)
    others = await put(store, "umbrella", TEXT)
    assert new.kek_id != old.kek_id
    assert await get(store, "acme", old.digest) == NOISE
    await keyring.destroy("acme")
    restarted = type(store)(backend, keyring, records, keyring.name_key)
    for digest in (old.digest, new.digest):
        with pytest.raises(KeyUnavailableError):
            await restarted.open("acme", digest)
    assert await get(restarted, "umbrella", others.digest) == TEXT
    await restarted.aclose()


async def test_recovery_leaves_an_object_without_a_record_to_collection(
    store: BlobStore, backend: MemoryBackend, records: MemoryKeyRecords
) -> None:
    kept = await put(store, "acme", NOISE)
    backend.objects["00" * 32] = b"committed by a process that died before its record"
    assert await store.recover() == 0
    assert len(backend.objects) == len(kept.objects) + 1
    done = await Collector(store.objects, NothingDies(records), check_lease).run(0)
    assert (done.objects, done.bytes, done.objects_seen) == (1, 50, len(kept.objects) + 1)
    assert set(backend.objects) == set(kept.objects)


async def test_a_quarantined_blob_is_refused_and_replaced_when_ingested_again(
    store: BlobStore, records: MemoryKeyRecords
) -> None:
    first = await put(store, "acme", NOISE)
    records.quarantined.add(first.object_name)
    assert not await store.contains("acme", first.digest)
    with pytest.raises(BlobDamagedError, match="known to be damaged"):
        await store.open("acme", first.digest)
    lent = await put(store, "umbrella", NOISE)
    again = await put(store, "acme", NOISE)
    assert again.object_name == lent.object_name != first.object_name
    assert await get(store, "acme", first.digest) == NOISE


async def test_a_record_without_its_object_is_damage_not_absence(
    store: BlobStore, backend: MemoryBackend
) -> None:
    record = await put(store, "acme", NOISE)
    assert await get(store, "acme", record.digest) == NOISE
    del backend.objects[record.object_name]
    with pytest.raises(BlobMissingError):
        await store.open("acme", record.digest)


async def test_a_pull_of_many_ranges_asks_the_catalog_once_in_five_seconds(
    store: BlobStore, records: MemoryKeyRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await put(store, "acme", NOISE)
    asked: list[Digest] = []
    genuine = records.get

    async def counted(tenant: str, digest: Digest) -> object:
        asked.append(digest)
        return await genuine(tenant, digest)

    monkeypatch.setattr(records, "get", counted)
    for at in range(0, 100_000, 10_000):
        assert await get(store, "acme", record.digest, at, 100) == NOISE[at : at + 100]
    assert len(asked) == 1
    await store.delete("acme", record.digest)
    with pytest.raises(BlobNotFoundError):
        await store.open("acme", record.digest)


async def test_a_range_reads_only_its_segments_header_and_trailer(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = noise(4_000_000)
    record = await put(store, "acme", data)
    read: list[int] = []
    genuine = MemoryObjectReader.read_into

    def counted(self: MemoryObjectReader, offset: int, buffer: memoryview) -> int:
        read.append(len(buffer))
        return genuine(self, offset, buffer)

    monkeypatch.setattr(MemoryObjectReader, "read_into", counted)
    assert await get(store, "acme", record.digest, 2_000_000, 100_000) == data[2_000_000:2_100_000]
    assert sum(read) <= 3 * (1 << 16) + 1500


def test_a_record_is_forgotten_after_its_time_or_by_capacity() -> None:
    time = [0.0]
    recent = RecentRecords(capacity=2, lifetime_s=5, now=lambda: time[0])
    one, two, three = (KeyRecord("acme", Digest.of(bytes([n])), b"", "", 0, 0, "kek", b"") for n in range(3))
    recent.put(one)
    time[0] = 4.9
    assert recent.get("acme", one.digest) == one
    assert recent.get("umbrella", one.digest) is None
    time[0] = 5.0
    assert recent.get("acme", one.digest) is None
    for record in (one, two, three):
        recent.put(record)
    assert recent.get("acme", one.digest) is None
    assert recent.get("acme", three.digest) == three


async def test_a_store_that_works_answers_its_probe(store: BlobStore) -> None:
    await store.probe()
    await store.probe_writing()


def test_object_names_differ_by_key_digest_and_file() -> None:
    one, two = Digest.of(b"1"), Digest.of(b"2")
    names = {
        name
        for key in (bytes(32), b"\1" * 32)
        for digest in (one, two, None)
        for file_id in (bytes(16), b"\1" * 16)
        for naming in [ObjectNaming(key, digest)]
        for name in (naming.container(file_id), naming.sidecar(file_id))
    }
    assert len(names) == 24
