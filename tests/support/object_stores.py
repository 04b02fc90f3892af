"""Object stores on loopback: a real S3 server, and the vendor's emulator of Azure's."""

import base64
import hmac
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

from tests.support.built_programs import azurite, go_program
from tests.support.processes import Process, free_port, listening

BUCKET = "crisper-blobs"
S3_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
)


class S3Server:
    """versitygw over a folder, with one bucket; it can be stopped and started again.

    Args:
        folder: Holds the buckets and the log.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bucket = folder / "buckets" / BUCKET
        self.bucket.mkdir(parents=True)
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._process: Process | None = None

    def start(self) -> None:
        argv = [
            str(go_program("versitygw")),
            *("--access", S3_ENVIRONMENT["AWS_ACCESS_KEY_ID"]),
            *("--secret", S3_ENVIRONMENT["AWS_SECRET_ACCESS_KEY"]),
            *("--port", f"127.0.0.1:{self.port}", "posix", str(self.bucket.parent)),
        ]
        log = self.folder / "versitygw.log"
        self._process = Process(argv, log, ready=lambda: listening(self.port))

    @property
    def pid(self) -> int:
        """The process id while it runs."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def kill9(self) -> None:
        if self._process is not None:
            self._process.kill9()

    def url(self, prefix: str = "", endpoint: str = "", **options: str) -> str:
        """Return the storage URL of a prefix of the bucket."""
        more = "".join(f"&{name}={value}" for name, value in options.items())
        return f"s3://{BUCKET}/{prefix}?endpoint={quote(endpoint or self.endpoint)}&region=us-east-1{more}"

    def objects(self, prefix: str = "") -> list[Path]:
        """List the files of complete objects."""
        return sorted(path for path in (self.bucket / prefix).rglob("*") if path.is_file() and _named(path))

    def uploads(self) -> list[Path]:
        """List the multipart uploads that are neither complete nor aborted."""
        return sorted((self.bucket / ".sgwtmp" / "multipart").glob("*/*"))


def _named(path: Path) -> bool:
    return ".sgwtmp" not in path.parts


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Run an S3 server."""
    server = S3Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = base64.b64encode(b"a key of this test run only, 64 bytes long, as the service's are.").decode()
AZURE_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {"AZURE_STORAGE_ACCOUNT_NAME": AZURE_ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY}
)


@contextmanager
def azure_emulator(folder: Path) -> Iterator[str]:
    """Run Azurite with one container; yield its address."""
    port = free_port()
    argv = [
        *azurite(),
        *("--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder)),
        *("--silent", "--skipApiVersionCheck", "--disableTelemetry"),
    ]
    env = {"AZURITE_ACCOUNTS": f"{AZURE_ACCOUNT}:{AZURE_KEY}"}
    with Process(argv, folder / "azurite.log", env=env, ready=lambda: listening(port)):
        url = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
        urllib.request.urlopen(_make_container(url), timeout=10).close()  # noqa: S310
        yield url


def _make_container(url: str) -> urllib.request.Request:
    """Sign "Create Container" with the account's key (Azure Storage, "Authorize with Shared Key")."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
    named = "\n".join(f"{name}:{value}" for name, value in headers.items())
    resource = f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{BUCKET}\nrestype:container"
    signed = "PUT" + "\n" * 12 + f"{named}\n{resource}"
    mac = base64.b64encode(hmac.digest(base64.b64decode(AZURE_KEY), signed.encode(), "sha256")).decode()
    headers["Authorization"] = f"SharedKey {AZURE_ACCOUNT}:{mac}"
    return urllib.request.Request(f"{url}/{BUCKET}?restype=container", headers=headers, method="PUT")  # noqa: S310
