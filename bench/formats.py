"""Speed and CPU time of both container formats, in turns: ingest, and reading of plaintext.

python -m bench.formats [--mib 1024] [--rounds 3] [--folder /dev/shm]

Writes bench/results/<date>-<commit>-formats.json: medians of `rounds`, in MiB/s and CPU seconds for each GiB.
The data are random, so OEB1 does not compress them.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import uvloop

from bench import results
from storage.backends.local import LocalBackend
from storage.blobs import BlobStore
from storage.digest import Digest
from storage.keys.local import LocalKeyring
from storage.read.reader import BlobReader
from tests.support.key_records import MemoryKeyRecords

PIECE = 256 << 10
READ = 1 << 20
FORMATS = {"oeb1": False, "oeb2": True}


async def timed(work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Return the wall time and the CPU time of `work`."""
    wall, cpu = time.perf_counter(), time.process_time()
    await work()
    return time.perf_counter() - wall, time.process_time() - cpu


def read_all(reader: BlobReader) -> None:
    buffer, at = memoryview(bytearray(2 * READ)), 0
    while at < reader.size_bytes:
        end = reader.piece_end(at, READ)
        at += reader.read_into(at, buffer[: end - at])


async def measure(folder: Path, data: bytes, rounds: int) -> dict[str, dict[str, float]]:
    keyring, records = LocalKeyring.create(folder / "keys.json"), MemoryKeyRecords()
    store = BlobStore(LocalBackend(folder / "blobs"), keyring, records, keyring.name_key)
    digest, taken = Digest.of(data), dict[str, list[tuple[float, float]]]()

    async def ingest(tenant: str) -> None:
        view = memoryview(data)
        async with store.ingest(tenant, digest, len(data), deliverable=FORMATS[tenant]) as writer:
            for start in range(0, len(data), PIECE):
                await writer.write(view[start : start + PIECE])
            await writer.commit()

    async def read(tenant: str) -> None:
        async with await store.open(tenant, digest) as reader:
            await asyncio.to_thread(read_all, reader)

    for _ in range(rounds):
        for tenant in FORMATS:
            for name, work in (("ingest", ingest), ("read", read)):
                taken.setdefault(f"{tenant} {name}", []).append(await timed(lambda: work(tenant)))  # noqa: B023
            await store.delete(tenant, digest)
    await store.aclose()
    mib = len(data) / (1 << 20)
    return {
        name: {
            "mib_per_s": round(mib / median(wall for wall, _ in times), 1),
            "cpu_s_per_gib": round(median(cpu for _, cpu in times) * 1024 / mib, 3),
        }
        for name, times in taken.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))  # noqa: S108
    given = parser.parse_args()
    with TemporaryDirectory(dir=given.folder) as name:
        figures = uvloop.run(measure(Path(name), os.urandom(given.mib << 20), given.rounds))
    for title, figure in figures.items():
        print(title, figure)
    facts = {"mib": given.mib, "folder": str(given.folder), "formats": figures}
    path = results.write("formats", "container formats in turns", facts)
    print(f"written to {path.relative_to(results.ROOT)}")


if __name__ == "__main__":
    main()
