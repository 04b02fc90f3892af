"""A process that imports blobs until it is killed.

`python -m tests.support.crashing_import ROOT WINDOW FORMAT`: WINDOW names the moment of the third blob's
commit at which the process kills itself; `never` leaves it to its parent.
"""

import asyncio
import base64
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from storage.backends.local import LocalBackend
from storage.blobs import BlobStore
from storage.digest import Digest
from storage.keys.local import LocalKeyring
from storage.records import KeyRecord
from tests.support.blobs import FORMATS, put
from tests.support.key_records import MemoryKeyRecords

_SIDECAR = ("before the sidecar is named", "after the sidecar is named")
_OBJECT = ("before the object is named", "after the object is named")
_RECORD = ("before the record", "after the record")
WINDOWS = {"oeb1": (*_OBJECT, *_RECORD), "oeb2": (*_SIDECAR, *_OBJECT, *_RECORD)}
_THIRD = 3
_TENANT = "acme"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class FileKeyRecords(MemoryKeyRecords):
    """Key records that survive: one JSON line each, durable before `add` returns."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("a+")
        self._file.seek(0)
        for line in self._file:
            record = _decode(json.loads(line))
            self.rows[record.tenant, record.digest] = record

    async def add(self, record: KeyRecord, replaces: KeyRecord | None = None) -> KeyRecord:
        stood = await super().add(record, replaces)
        if stood is record:
            self._file.write(json.dumps(_encode(record)) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        return stood

    def close(self) -> None:
        self._file.close()


def _encode(record: KeyRecord) -> dict[str, Any]:
    binary = {name: base64.b64encode(getattr(record, name)).decode() for name in ("file_id", "wrapped_dek")}
    digests = {name: str(value) for name in ("digest", "ciphertext") if (value := getattr(record, name))}
    return asdict(record) | digests | binary


def _decode(row: dict[str, Any]) -> KeyRecord:
    binary = {name: base64.b64decode(row[name]) for name in ("file_id", "wrapped_dek")}
    digests = {name: Digest.parse(value) for name in ("digest", "ciphertext") if (value := row[name])}
    return KeyRecord(**(row | digests | binary))


def open_store(root: Path, store_type: type[BlobStore] = BlobStore) -> tuple[BlobStore, FileKeyRecords]:
    path = root / "keyring.json"
    keyring = LocalKeyring.load(path) if path.exists() else LocalKeyring.create(path)
    records = FileKeyRecords(root / "records.jsonl")
    return store_type(LocalBackend(root / "blobs"), keyring, records, keyring.name_key), records


def _on_call(number: int, genuine: Callable[..., Any], *, before: bool) -> Callable[..., Any]:
    calls = iter(range(1, 1 << 30))

    def watched(*args: object) -> object:
        now = next(calls) == number
        if now and before:
            die()
        result = genuine(*args)
        if now:
            die()
        return result

    return watched


def _arm(window: str, format_name: str, records: FileKeyRecords) -> None:
    before = window.startswith("before")
    if window in (*_SIDECAR, *_OBJECT):
        objects_of_two_blobs = 2 * (1 if format_name == "oeb1" else 2)
        number = objects_of_two_blobs + (2 if format_name == "oeb2" and window in _OBJECT else 1)
        os.link = _on_call(number, os.link, before=before)
    elif window == _RECORD[0]:
        records.add = _on_call(_THIRD, records.add, before=True)  # type: ignore[method-assign]
    elif window == _RECORD[1]:
        os.fsync = _die_after_the_third_record(os.fsync, records._file.fileno())


def _die_after_the_third_record(genuine: Callable[..., Any], fd: int) -> Callable[..., Any]:
    watched = _on_call(_THIRD, genuine, before=False)
    return lambda synced: (watched if synced == fd else genuine)(synced)


async def _import(root: Path, window: str, format_name: str) -> None:
    store, records = open_store(root, FORMATS[format_name])
    _arm(window, format_name, records)
    print("ready", flush=True)  # noqa: T201 - the parent starts its clock on this line
    while True:
        await put(store, _TENANT, random.randbytes(random.choice([10, 300_000, 3_000_000])))


if __name__ == "__main__":
    asyncio.run(_import(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
