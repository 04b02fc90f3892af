from pathlib import Path

import pytest

from storage.backends.local import LocalBackend
from storage.backends.memory import MemoryBackend
from storage.keys.local import LocalKeyring
from tests.contracts.blob_backend import BlobBackendContract
from tests.contracts.key_provider import KeyProviderContract
from tests.contracts.key_records import KeyRecordsContract
from tests.contracts.partials import PartialsContract
from tests.support.key_records import MemoryKeyRecords, MemoryPartials


class TestLocalBackend(BlobBackendContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> LocalBackend:
        return LocalBackend(tmp_path / "blobs")


class TestMemoryBackend(BlobBackendContract):
    @pytest.fixture
    def backend(self) -> MemoryBackend:
        return MemoryBackend()


class TestMemoryKeyRecords(KeyRecordsContract):
    @pytest.fixture
    def key_records(self) -> MemoryKeyRecords:
        return MemoryKeyRecords()


class TestMemoryPartials(PartialsContract):
    @pytest.fixture
    def partials(self) -> MemoryPartials:
        return MemoryPartials()


class TestLocalKeyring(KeyProviderContract):
    @pytest.fixture
    def provider(self, tmp_path: Path) -> LocalKeyring:
        return LocalKeyring.create(tmp_path / "keyring.json")
