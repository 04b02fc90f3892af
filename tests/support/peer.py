"""A neighbour that serves the blobs of its containerd's content store, read-only, to anyone."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from registry.pull.ranges import ByteRange, parse_ranges
from storage.digest import Digest
from tests.support.http_server import Handler, HttpServer

_STORE = "io.containerd.content.v1.content/blobs"


class Peer(HttpServer):
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

        class Answering(Handler):
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
                    self.answer(404)
                    return
                self._send(file)

            do_HEAD = do_GET

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

        super().__init__(Answering)
        self.url = f"http://localhost:{self.port}"
