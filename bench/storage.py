"""Speed of encrypted storage for each backend, compared with its single steps.

python -m bench.storage [--mib 512] [--rounds 5]

Writes bench/results/<date>-<commit>-storage.json. All rates are the best of `rounds`, in MB/s (10^6 bytes);
the data are random, so the codec is 0. Everything runs in one process, from the page cache.
`open_one_thread` reads up to the end of a segment, like the pull path. `open_at_any_border` reads whole
mebibytes, so it decrypts some segments twice.
"""

import argparse
import asyncio
import hashlib
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench import results
from storage.backends.local import LocalBackend
from storage.backends.locate import StorageLocation
from storage.backends.memory import MemoryBackend, MemoryObjectWriter
from storage.blobs import BlobStore
from storage.digest import Digest
from storage.keys.local import LocalKeyring
from storage.ports import BlobBackend
from storage.read.reader import BlobReader
from tests.support.key_records import MemoryKeyRecords
from tests.support.object_stores import S3_ENVIRONMENT, s3_server

PIECE = 256 << 10
READ = 1 << 20
SEGMENT = 256 << 10


def rate(work: Callable[[], object], size: int, rounds: int) -> float:
    best = min(timed(work) for _ in range(rounds))
    return round(size / best / 1e6, 1)


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


async def rate_async(
    work: Callable[[], Awaitable[object]],
    size: int,
    rounds: int,
    before: Callable[[], Awaitable[object]] | None = None,
) -> float:
    best = float("inf")
    for _ in range(rounds):
        if before is not None:
            await before()
        started = time.perf_counter()
        await work()
        best = min(best, time.perf_counter() - started)
    return round(size / best / 1e6, 1)


def raw(data: bytes, rounds: int, folder: Path) -> dict[str, float]:
    """Measure each step alone: their combination cannot be faster."""
    cipher, out = AESGCM(bytes(32)), memoryview(bytearray(SEGMENT + 16))
    back = memoryview(bytearray(SEGMENT))
    sealed = cipher.encrypt(bytes(12), data[:SEGMENT], None)
    view = memoryview(data)

    def seal() -> None:
        for start in range(0, len(data), SEGMENT):
            cipher.encrypt_into(bytes(12), view[start : start + SEGMENT], None, out)

    def unseal() -> None:
        for _ in range(0, len(data), SEGMENT):
            cipher.decrypt_into(bytes(12), sealed, None, back)

    def write() -> None:
        with (folder / "raw").open("wb") as file:
            file.write(view)
            os.fsync(file.fileno())

    def read() -> None:
        with (folder / "raw").open("rb", buffering=0) as file:
            while file.readinto(back):
                pass

    return {
        "sha256": rate(lambda: hashlib.sha256(data).digest(), len(data), rounds),
        "aes_256_gcm_seal": rate(seal, len(data), rounds),
        "aes_256_gcm_open": rate(unseal, len(data), rounds),
        "disk_write_and_fsync": rate(write, len(data), rounds),
        "page_cache_read": rate(read, len(data), rounds),
    }


class Nowhere(MemoryBackend):
    """Stores nothing, to measure the cost of ingestion alone."""

    def create(self, name: str, expected_bytes: int | None = None) -> "DiscardingWriter":
        del expected_bytes
        return DiscardingWriter(self, name)


class DiscardingWriter(MemoryObjectWriter):
    """Discards an object."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Discard the data."""

    def commit(self) -> None:
        """Do nothing: there is no data."""

    def abort(self) -> None:
        """Do nothing: there is no data."""


async def measure(backend: BlobBackend, data: bytes, rounds: int, keys: Path) -> dict[str, float]:
    keyring, records = LocalKeyring.create(keys), MemoryKeyRecords()
    store, digest = BlobStore(backend, keyring, records, keyring.name_key), Digest.of(data)

    forget = partial(store.delete, "bench", digest)

    async def ingest() -> None:
        async with store.ingest("bench", digest, len(data)) as writer:
            view = memoryview(data)
            for start in range(0, len(data), PIECE):
                await writer.write(view[start : start + PIECE])
            await writer.commit()

    async def read_in_one_thread(*, aligned: bool = True) -> None:
        async with await store.open("bench", digest) as reader:
            await asyncio.to_thread(read_all, reader, aligned)

    def read_all(reader: BlobReader, aligned: bool) -> None:  # noqa: FBT001
        buffer, at = memoryview(bytearray(2 * READ)), 0
        while at < len(data):
            end = reader.piece_end(at, READ) if aligned else at + READ
            at += reader.read_into(at, buffer[: end - at])

    async def stream() -> None:
        async with await store.open("bench", digest) as reader:
            async for _ in reader.stream():
                pass

    async def two_streams() -> None:
        await asyncio.gather(stream(), stream())

    try:
        size = len(data)
        if isinstance(backend, Nowhere):
            return {"ingest": await rate_async(ingest, size, rounds, forget)}
        return {
            "ingest": await rate_async(ingest, size, rounds, before=partial(store.delete, "bench", digest)),
            "open_one_thread": await rate_async(read_in_one_thread, size, rounds),
            "open_at_any_border": await rate_async(partial(read_in_one_thread, aligned=False), size, rounds),
            "stream_one_reader": await rate_async(stream, size, rounds),
            "stream_two_readers": await rate_async(two_streams, 2 * size, rounds),
        }
    finally:
        await store.delete("bench", digest)
        await store.aclose()


@contextmanager
def backends(folder: Path, quick: Path) -> Iterator[dict[str, BlobBackend]]:
    os.environ.update(S3_ENVIRONMENT)
    (folder / "s3").mkdir()
    with s3_server(folder / "s3") as server:
        yield {
            "nowhere": Nowhere(),
            "tmpfs": LocalBackend(quick),
            "disk": LocalBackend(folder / "local"),
            "S3 (versitygw), same disk": StorageLocation.parse(server.url("bench")).open(),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    data = os.urandom(given.mib << 20)
    measured: dict[str, dict[str, float]] = {}
    with TemporaryDirectory(prefix="crisper-bench-") as name, TemporaryDirectory(dir="/dev/shm") as quick:
        folder = Path(name)
        alone = raw(data, given.rounds, folder)
        print("alone", alone)
        with backends(folder, Path(quick)) as found:
            for number, (title, backend) in enumerate(found.items()):
                keys = folder / f"keys-{number}.json"
                measured[title] = uvloop.run(measure(backend, data, given.rounds, keys))
                print(title, measured[title])
    figures = {"mib": given.mib, "unit": "MB/s, best of rounds", "alone": alone, "backends": measured}
    path = results.write("storage", "speed of encrypted storage, by backend", figures)
    print(f"written to {path.relative_to(results.ROOT)}")


if __name__ == "__main__":
    main()
