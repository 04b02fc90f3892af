"""Real object stores on loopback: an S3 server, and the emulators of Google's and Azure's."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

from tests.support.go_programs import go_program
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

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

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


@contextmanager
def google_emulator(folder: Path) -> Iterator[str]:
    """Run fake-gcs-server with one bucket; yield its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    argv = [
        str(go_program("fake-gcs-server")),
        *("-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"),
        *("-public-host", f"127.0.0.1:{port}", "-external-url", url),
    ]
    with Process(argv, folder / "gcs.log", ready=lambda: listening(port)):
        body = json.dumps({"name": BUCKET}).encode()
        headers = {"Content-Type": "application/json"}
        made = urllib.request.Request(f"{url}/storage/v1/b?project=test", body, headers, method="POST")
        urllib.request.urlopen(made, timeout=10).close()
        yield url


def aws_environment() -> dict[str, str]:
    """Return this process' environment with the S3 server's credentials."""
    return {**os.environ, **S3_ENVIRONMENT}
