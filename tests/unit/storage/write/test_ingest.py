import asyncio
import threading

import pytest

from storage.backends.memory import MemoryBackend, MemoryObjectWriter
from storage.blobs import BlobStore
from storage.digest import Digest
from storage.errors import DigestMismatchError, KeyUnavailableError, StorageFullError
from storage.keys.local import LocalKeyring
from tests.support.blobs import put
from tests.support.containers import noise
from tests.support.key_records import MemoryKeyRecords

DATA = noise(5_000_000)


async def test_bytes_that_the_digest_does_not_name_become_nothing(
    store: BlobStore, backend: MemoryBackend, records: MemoryKeyRecords
) -> None:
    async with store.ingest("acme", Digest.of(b"something else")) as writer:
        await writer.write(DATA)
        with pytest.raises(DigestMismatchError, match="does not match the digest sha256:"):
            await writer.commit()
    assert (backend.objects, records.rows) == ({}, {})


@pytest.mark.parametrize(("announced", "when"), [(len(DATA) - 1, "write"), (len(DATA) + 1, "commit")])
async def test_more_or_fewer_bytes_than_announced_become_nothing(
    store: BlobStore, backend: MemoryBackend, announced: int, when: str
) -> None:
    reached = ["write"]

    async def ingest() -> None:
        async with store.ingest("acme", Digest.of(DATA), announced) as writer:
            await writer.write(DATA)
            reached.append("commit")
            await writer.commit()

    with pytest.raises(DigestMismatchError, match=str(announced)):
        await ingest()
    assert reached[-1] == when
    assert backend.objects == {}


async def test_leaving_without_commit_leaves_nothing_and_closes_the_writer(
    store: BlobStore, backend: MemoryBackend, records: MemoryKeyRecords
) -> None:
    async with store.ingest("acme", Digest.of(DATA)) as writer:
        await writer.write(DATA)
    assert (backend.objects, records.rows) == ({}, {})
    for use in (writer.write(b""), writer.commit()):
        with pytest.raises(RuntimeError, match="closed"):
            await use


async def test_what_a_caller_does_to_its_buffer_after_a_write_does_not_matter(store: BlobStore) -> None:
    async with store.ingest("acme", Digest.of(DATA)) as writer:
        buffer = bytearray(70_000)
        for at in range(0, len(DATA), len(buffer)):
            piece = DATA[at : at + len(buffer)]
            buffer[: len(piece)] = piece
            await writer.write(memoryview(buffer)[: len(piece)])
            buffer[:] = bytes(len(buffer))
        assert (await writer.commit()).size_bytes == len(DATA)


class SlowWriter(MemoryObjectWriter):
    """Holds every write until it is let go, and remembers in which order things ended."""

    def __init__(self, backend: "SlowBackend", name: str) -> None:
        super().__init__(backend, name)
        self._started, self._gate, self._log = backend.started, backend.gate, backend.log

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._started.set()
        self._gate.wait(10)
        super().write(data)
        self._log.append("write")

    def abort(self) -> None:
        super().abort()
        self._log.append("abort")


class SlowBackend(MemoryBackend):
    def __init__(self) -> None:
        super().__init__()
        self.started, self.gate, self.log = threading.Event(), threading.Event(), list[str]()

    def create(self, name: str, expected_bytes: int | None = None) -> SlowWriter:  # noqa: ARG002
        return SlowWriter(self, name)


async def test_a_cancelled_ingest_waits_for_its_thread_before_it_aborts(
    keyring: LocalKeyring, records: MemoryKeyRecords
) -> None:
    backend = SlowBackend()
    store = BlobStore(backend, keyring, records, keyring.name_key)

    async def import_blob() -> None:
        async with store.ingest("acme", Digest.of(DATA)) as writer:
            await writer.write(DATA)
            await writer.commit()

    task = asyncio.create_task(import_blob())
    assert await asyncio.to_thread(backend.started.wait, 10)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    assert backend.log == []
    backend.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert backend.log[-1] == "abort"
    assert "abort" not in backend.log[:-1]
    assert (backend.objects, records.rows) == ({}, {})
    await store.aclose()


class FullBackend(MemoryBackend):
    def create(self, name: str, expected_bytes: int | None = None) -> MemoryObjectWriter:  # noqa: ARG002
        raise StorageFullError("storage cannot be written: ENOSPC")


async def test_a_full_backend_fails_the_import_and_leaves_nothing(
    keyring: LocalKeyring, records: MemoryKeyRecords
) -> None:
    store = BlobStore(FullBackend(), keyring, records, keyring.name_key)
    with pytest.raises(StorageFullError):
        await put(store, "acme", DATA)
    with pytest.raises(StorageFullError):
        await put(store, "acme", b"small")
    assert records.rows == {}
    await store.aclose()


async def test_a_key_provider_out_of_reach_fails_the_import_and_leaves_nothing(
    store: BlobStore, backend: MemoryBackend, keyring: LocalKeyring
) -> None:
    keyring._file.path.unlink()
    with pytest.raises(KeyUnavailableError):
        await put(store, "acme", DATA)
    assert backend.objects == {}


async def test_many_writers_at_once_each_keep_their_own_bytes(store: BlobStore) -> None:
    blobs = [noise(300_000, seed) for seed in range(12)]
    records = await asyncio.gather(*(put(store, "acme", blob, piece=17_000) for blob in blobs))
    for blob, record in zip(blobs, records, strict=True):
        async with await store.open("acme", record.digest) as reader:
            assert reader.read_at(0, reader.size_bytes) == blob


async def test_a_derived_blob_is_announced_before_it_is_stored(
    store: BlobStore, backend: MemoryBackend
) -> None:
    announced: list[Digest] = []

    async def announce(digest: Digest) -> None:
        assert not await store.contains("acme", digest)
        announced.append(digest)

    async with store.derive("acme", announce, len(DATA)) as writer:
        await writer.write(DATA)
        record = await writer.commit()
    assert announced == [record.digest] == [Digest.of(DATA)]
    assert record.size_bytes == len(DATA)
    await store.verify("acme", record.digest)
    async with store.derive("acme", announce) as writer:
        await writer.write(DATA)
    assert (backend.objects.keys(), len(announced)) == (record.objects.keys(), 1)
