"""A cache of ciphertext that sends what a server's storage has, and records the headers of all requests."""

import hashlib
from pathlib import Path

from tests.support.http_server import Handler, HttpServer


class RecordingCache(HttpServer):
    """Serves stored files by their digest, at `localhost`.

    Attributes:
        url: What CRISPER_BLOB_REDIRECT takes.
        requests: Headers of each request.
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, str]] = []
        self._files: dict[str, Path] = {}
        cache = self

        class Answering(Handler):
            def do_GET(self) -> None:
                cache.requests.append(dict(self.headers.items()))
                file = cache._files.get(self.path.rpartition("/")[2])
                content = file.read_bytes() if file else b""
                self.answer(200 if file else 404, content)

        super().__init__(Answering)
        self.url = f"http://localhost:{self.port}/blobs"

    def serve(self, objects: Path) -> None:
        """Find the files by the digest of their content."""
        found = [path for path in objects.glob("*/*") if path.is_file()]
        self._files = {f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}": path for path in found}
