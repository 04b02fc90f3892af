import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.backends.locate import StorageLocation
from storage.ports import BlobBackend
from tests.contracts.blob_backend import BlobBackendContract
from tests.support.object_stores import (
    AZURE_ENVIRONMENT,
    BUCKET,
    S3_ENVIRONMENT,
    S3Server,
    azure_emulator,
    s3_server,
)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with azure_emulator(tmp_path_factory.mktemp("azure")) as url:
        yield url


class TestS3(BlobBackendContract):
    @pytest.fixture
    def backend(self, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> BlobBackend:
        for name, value in S3_ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        return StorageLocation.parse(s3.url(secrets.token_hex(4))).open()


class TestAzure(BlobBackendContract):
    @pytest.fixture
    def backend(self, azure: str, monkeypatch: pytest.MonkeyPatch) -> BlobBackend:
        for name, value in AZURE_ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        return StorageLocation.parse(f"az://{BUCKET}/{secrets.token_hex(4)}?endpoint={azure}").open()


class TestFileUrl(BlobBackendContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> BlobBackend:
        return StorageLocation.parse(f"file://{tmp_path}/blobs").open()
