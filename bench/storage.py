"""Speed of encrypted storage for each backend, beside sha256 and AES-256-GCM by themselves.

python -m bench.storage [--mib 512] [--rounds 3]

Writes bench/results/<date>-<commit>-storage.json. All rates are the best of `rounds`, in MB/s (10^6 bytes);
the data are random, so the codec is 0. Everything runs in one process, from page cache.
"""

import argparse
import asyncio
import hashlib
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.backends.locate import StorageLocation
from storage.backends.memory import MemoryBackend
from storage.blobs import BlobStore
from storage.digest import Digest
from storage.keys.local import LocalKeyring
from storage.ports import BlobBackend
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


async def rate_async(work: Callable[[], Awaitable[object]], size: int, rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        await work()
        best = min(best, time.perf_counter() - started)
    return round(size / best / 1e6, 1)


def raw(data: bytes, rounds: int) -> dict[str, float]:
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

    return {
        "sha256": rate(lambda: hashlib.sha256(data).digest(), len(data), rounds),
        "aes_256_gcm_seal": rate(seal, len(data), rounds),
        "aes_256_gcm_open": rate(unseal, len(data), rounds),
    }


async def measure(backend: BlobBackend, data: bytes, rounds: int, folder: Path) -> dict[str, float]:
    keyring, records = LocalKeyring.create(folder / "keyring.json"), MemoryKeyRecords()
    store, digest = BlobStore(backend, keyring, records, keyring.name_key), Digest.of(data)

    async def ingest() -> None:
        await store.delete("bench", digest)
        async with store.ingest("bench", digest, len(data)) as writer:
            view = memoryview(data)
            for start in range(0, len(data), PIECE):
                await writer.write(view[start : start + PIECE])
            await writer.commit()

    async def read_in_one_thread() -> None:
        async with await store.open("bench", digest) as reader:
            await asyncio.to_thread(read_all, reader)

    def read_all(reader: object) -> None:
        buffer, at = bytearray(READ), 0
        while at < len(data):
            at += reader.read_into(at, buffer)  # type: ignore[attr-defined]

    async def stream() -> None:
        async with await store.open("bench", digest) as reader:
            async for _ in reader.stream():
                pass

    async def two_streams() -> None:
        await asyncio.gather(stream(), stream())

    try:
        size = len(data)
        return {
            "ingest": await rate_async(ingest, size, rounds),
            "open_one_thread": await rate_async(read_in_one_thread, size, rounds),
            "stream_one_reader": await rate_async(stream, size, rounds),
            "stream_two_readers": await rate_async(two_streams, 2 * size, rounds),
        }
    finally:
        await store.delete("bench", digest)
        await store.aclose()


@contextmanager
def backends(folder: Path) -> Iterator[dict[str, BlobBackend]]:
    os.environ.update(S3_ENVIRONMENT)
    (folder / "s3").mkdir()
    with s3_server(folder / "s3") as server:
        yield {
            "memory": MemoryBackend(),
            "local": StorageLocation.parse(f"file://{folder}/local").open(),
            "s3 (versitygw 1.8.0 on the same disk and processors)": StorageLocation.parse(
                server.url("bench")
            ).open(),
        }


def commit() -> str:
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    data = os.urandom(given.mib << 20)
    result = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "command": f"python -m bench.storage --mib {given.mib} --rounds {given.rounds}",
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "processors": os.cpu_count(),
            "python": platform.python_version(),
            "load": round(os.getloadavg()[0], 1),
        },
        "unit": "MB/s",
        "raw": raw(data, given.rounds),
        "backends": {},
    }
    with tempfile.TemporaryDirectory(prefix="crisper-bench-") as name, backends(Path(name)) as found:
        for title, backend in found.items():
            folder = Path(name) / f"keys-{len(result['backends'])}"  # type: ignore[arg-type]
            folder.mkdir()
            result["backends"][title] = asyncio.run(measure(backend, data, given.rounds, folder))  # type: ignore[index]
    text = json.dumps(result, indent=2)
    print(text)
    day = datetime.now(UTC).date().isoformat()
    target = Path(__file__).parent / "results" / f"{day}-{commit()}-storage.json"
    target.write_text(text + "\n")
    print(target)


if __name__ == "__main__":
    main()
