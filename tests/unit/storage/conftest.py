from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.backends.memory import MemoryBackend
from storage.blobs import BlobStore
from storage.keys.local import LocalKeyring
from tests.support.blobs import FORMATS
from tests.support.key_records import MemoryKeyRecords


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def records() -> MemoryKeyRecords:
    return MemoryKeyRecords()


@pytest.fixture
def keyring(tmp_path: Path) -> LocalKeyring:
    return LocalKeyring.create(tmp_path / "keyring.json")


@pytest.fixture(params=FORMATS)
def store_type(request: pytest.FixtureRequest) -> type[BlobStore]:
    """Store of each container format."""
    return FORMATS[request.param]


@pytest.fixture
async def store(
    backend: MemoryBackend,
    keyring: LocalKeyring,
    records: MemoryKeyRecords,
    store_type: type[BlobStore],
) -> AsyncIterator[BlobStore]:
    store = store_type(backend, keyring, records, keyring.name_key, segment_log2=16)
    yield store
    await store.aclose()
