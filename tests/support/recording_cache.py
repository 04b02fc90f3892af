"""A cache of ciphertext that sends what a server's storage has, and records the headers of all requests."""

import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self


class RecordingCache:
    """Serves stored files by their digest, at `localhost`.

    Attributes:
        url: What CRISPER_BLOB_REDIRECT takes.
        requests: Headers of each request.
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, str]] = []
        self._files: dict[str, Path] = {}
        cache = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                cache.requests.append(dict(self.headers.items()))
                file = cache._files.get(self.path.rpartition("/")[2])
                content = file.read_bytes() if file else b""
                self.send_response(200 if file else 404)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://localhost:{self._server.server_port}/blobs"
        self._thread = Thread(target=self._server.serve_forever, daemon=True)

    def serve(self, objects: Path) -> None:
        """Find the files by the digest of their content."""
        found = [path for path in objects.glob("*/*") if path.is_file()]
        self._files = {f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}": path for path in found}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
