"""An S3 server behind a network that fails: nothing half-written is seen, lost, or left."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from storage.backends.locate import StorageLocation
from storage.backends.s3_leftovers import S3Leftovers
from storage.blobs import BlobStore
from storage.digest import Digest
from storage.errors import StorageError, StorageFullError, StorageUnavailableError
from storage.keys.local import LocalKeyring
from tests.support.blobs import get, put
from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.key_records import MemoryKeyRecords
from tests.support.object_stores import S3_ENVIRONMENT, S3Server, s3_server

SMALL = random.Random(1).randbytes(300_000)
LARGE = random.Random(2).randbytes(20 << 20)
FAULTS = [Fault.ERROR, Fault.SLOW_DOWN, Fault.RESET, Fault.SLOW]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(s3: S3Server) -> Iterator[FaultProxy]:
    with fault_proxy(s3.endpoint) as proxy:
        yield proxy


@dataclass
class Shop:
    store: BlobStore
    records: MemoryKeyRecords
    server: S3Server
    prefix: str

    def objects(self) -> set[str]:
        return {path.name for path in self.server.objects(self.prefix)} - {"probe"}


@pytest.fixture
async def shop(
    s3: S3Server,
    proxy: FaultProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> AsyncIterator[Shop]:
    for name, value in S3_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    proxy.set(Fault.NONE)
    prefix = f"{abs(hash(request.node.name)):x}"
    location = StorageLocation.parse(s3.url(prefix, proxy.endpoint, timeout_s="1", retry_s="1"))
    keyring, records = LocalKeyring.create(tmp_path / "keyring.json"), MemoryKeyRecords()
    store = BlobStore(location.open(), keyring, records, keyring.name_key)
    yield Shop(store, records, s3, prefix)
    proxy.set(Fault.NONE)
    await store.aclose()


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_failed_write_leaves_nothing_and_needs_no_restart(
    shop: Shop, proxy: FaultProxy, fault: Fault, data: bytes
) -> None:
    proxy.set(fault)
    with pytest.raises(StorageUnavailableError):
        await put(shop.store, "acme", data)
    proxy.set(Fault.NONE)
    assert shop.records.rows == {}
    record = await put(shop.store, "acme", data)
    assert await get(shop.store, "acme", record.digest) == data
    assert shop.objects() == {record.object_name}


@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
async def test_a_deliverable_blob_comes_back_as_plaintext_and_as_ciphertext(shop: Shop, data: bytes) -> None:
    digest = Digest.of(data)
    async with shop.store.ingest("acme", digest, len(data), deliverable=True) as writer:
        await writer.write(data)
        record = await writer.commit()
    assert shop.objects() == set(record.objects)
    assert await get(shop.store, "acme", digest) == data
    assert (
        await get(shop.store, "acme", digest, len(data) // 3, len(data) // 2)
        == (data[len(data) // 3 :][: len(data) // 2])
    )
    assert record.ciphertext is not None
    async with await shop.store.open_ciphertext("acme", digest, record.ciphertext) as reader:
        assert reader.fileno() is None
        assert Digest.of(reader.read_at(0, reader.size_bytes)) == record.ciphertext
    await shop.store.verify("acme", digest)
    rekeyed = await shop.store.rekey("acme", digest)
    assert shop.objects() == {*record.objects, *rekeyed.objects}, "older sessions keep theirs"
    await shop.store.delete("acme", digest)
    assert shop.objects() == set(record.objects), "left to collection"


@pytest.mark.parametrize("fault", [*FAULTS, Fault.RESET_IN_BODY])
async def test_a_read_that_fails_is_an_error_and_works_again_without_a_restart(
    shop: Shop, proxy: FaultProxy, fault: Fault
) -> None:
    record = await put(shop.store, "acme", LARGE)
    async with await shop.store.open("acme", record.digest) as reader:
        chunks = reader.stream()
        got = bytes(await anext(chunks))
        proxy.set(fault, "GET", "HEAD")
        with pytest.raises(StorageUnavailableError):
            got += b"".join([bytes(chunk) async for chunk in chunks])
    assert len(got) < len(LARGE)
    assert LARGE.startswith(got)
    with pytest.raises(StorageUnavailableError):
        await shop.store.open("acme", record.digest)
    proxy.set(Fault.NONE)
    assert await get(shop.store, "acme", record.digest) == LARGE


async def test_trouble_that_passes_is_retried_and_not_noticed(shop: Shop, proxy: FaultProxy) -> None:
    async def trouble() -> None:
        for fault in (Fault.SLOW_DOWN, Fault.ERROR, Fault.RESET):
            proxy.set(fault)
            await asyncio.sleep(0.05)
            proxy.set(Fault.NONE)
            await asyncio.sleep(0.15)

    before = proxy.failed
    passing = asyncio.create_task(trouble())
    records = [await put(shop.store, "acme", bytes([n]) * 200_000) for n in range(12)]
    await passing
    assert proxy.failed > before
    for n, record in enumerate(records):
        assert await get(shop.store, "acme", record.digest) == bytes([n]) * 200_000


async def test_an_upload_whose_end_cannot_be_told_is_reaped_later(
    shop: Shop, proxy: FaultProxy, s3: S3Server
) -> None:
    digest = Digest.of(LARGE)
    with pytest.raises(StorageError):  # noqa: PT012 - the leaving of the context is part of it
        async with shop.store.ingest("acme", digest, len(LARGE)) as writer:
            await writer.write(LARGE[: 18 << 20])
            await asyncio.sleep(0.5)
            proxy.set(Fault.ERROR, "PUT", "POST", "DELETE")
            await writer.write(LARGE[18 << 20 :])
            await writer.commit()
    proxy.set(Fault.NONE)
    left = s3.uploads()
    assert left
    assert shop.objects() == set()
    assert await shop.store.recover() == 0  # another server may be writing it
    reap = shop.store._backend._reap  # type: ignore[attr-defined]
    leftovers = reap.__self__
    assert isinstance(leftovers, S3Leftovers)
    leftovers._stale_after *= 0
    assert await shop.store.recover() == 1
    assert len(s3.uploads()) == len(left) - 1


async def test_credentials_that_may_not_write_fail_like_a_full_disk(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, s3: S3Server, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    location = StorageLocation.parse(s3.url("x", timeout_s="1", retry_s="1"))
    keyring = LocalKeyring.create(tmp_path / "another.json")
    store = BlobStore(location.open(), keyring, shop.records, keyring.name_key)
    with pytest.raises((StorageFullError, StorageUnavailableError)):
        await put(store, "acme", SMALL)
    with pytest.raises(StorageError):
        await store.probe()
    await store.aclose()


async def test_parts_of_a_killed_writer_are_salvaged_and_a_live_one_fails(
    shop: Shop,
) -> None:
    backend = shop.store._backend
    name = "ef" * 32
    writer = backend.create(name, 60 << 20)
    for at in range(0, 36 << 20, 1 << 20):
        writer.write(LARGE[at % len(LARGE) :][: 1 << 20])
    async with asyncio.timeout(20):
        while (reader := backend.salvage(name)) is None:  # noqa: ASYNC110 - the client's own thread
            await asyncio.sleep(0.1)
    assert 0 < reader.size_bytes <= 36 << 20
    assert reader.size_bytes % (8 << 20) == 0
    buffer = memoryview(bytearray(1 << 20))
    assert reader.read_into(3 << 20, buffer) == 1 << 20
    assert bytes(buffer) == LARGE[3 << 20 : 4 << 20]
    with pytest.raises(StorageError):
        writer.commit()
    writer.abort()
    backend.discard(name)
    assert backend.salvage(name) is None
    assert shop.objects() == set()
