"""A neighbour that serves the blobs of its containerd's content store, read-only, to anyone."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from registry.pull.ranges import ByteRange, parse_ranges
from storage.digest import Digest

_STORE = "io.containerd.content.v1.content/blobs"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing: its clients hang up."""


class Peer:
    """Answers `GET` and `HEAD` of `/v2/<name>/blobs/<digest>?ns=<registry>`, with ranges; all else is 404.

    Args:
        root: containerd's root folder.

    Attributes:
        requests: Method, namespace, digest and headers of each request.
        sent_bytes: Bytes of bodies.
    """

    def __init__(self, root: Path) -> None:
        self.requests: list[tuple[str, str, str, dict[str, str]]] = []
        self.sent_bytes = 0
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                target = urlsplit(self.path)
                kind, name = target.path.split("/")[-2:]
                namespace = parse_qs(target.query).get("ns", [""])[0]
                peer.requests.append((self.command, namespace, name, dict(self.headers.items())))
                file = root / _STORE / name.replace(":", "/")
                if (
                    kind != "blobs"
                    or ":" not in name
                    or Digest.parse(name).hex != file.name
                    or not file.is_file()
                ):
                    self.send_response(404)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self._send(file)

            do_HEAD = do_GET  # noqa: N815 (the library's name)

            def _send(self, file: Path) -> None:
                size = file.stat().st_size
                ranges = parse_ranges(self.headers["Range"], size)
                span = ranges[0] if ranges else ByteRange(0, size)
                self.send_response(206 if ranges else 200)
                self.send_header("Content-Type", "application/octet-stream")
                self.send_header("Content-Length", str(span.length))
                self.send_header("Accept-Ranges", "bytes")
                if ranges:
                    self.send_header("Content-Range", span.content_range(size))
                self.end_headers()
                if self.command == "GET":
                    with file.open("rb") as opened:
                        opened.seek(span.start)
                        self.wfile.write(opened.read(span.length))
                    peer.sent_bytes += span.length

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://localhost:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, daemon=True)

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
