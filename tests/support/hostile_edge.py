"""An edge cache that does not send what it should."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from tests.support.http import request
from tests.support.http_server import Handler, HttpServer

SLOW = ("slow body", "slow head", "silent")
_BYTE_S = 0.01


@dataclass(frozen=True)
class _Answer:
    status: int
    content_range: str
    length: int
    body: bytes


_CHANGES: Mapping[str, Callable[[_Answer], _Answer]] = {
    "flip": lambda good: replace(good, body=bytes([good.body[0] ^ 1]) + good.body[1:]),
    "cut": lambda good: replace(good, body=good.body[: good.length // 2]),
    "short": lambda good: replace(good, body=good.body[:-1], length=good.length - 1),
    "long": lambda good: replace(good, body=good.body + b"x", length=good.length + 1),
    "other range": lambda good: replace(good, content_range="bytes 1-9/10"),
    "redirect": lambda good: replace(good, status=307),
    "challenge": lambda good: replace(good, status=401),
    "500": lambda good: replace(good, status=500),
    "swap": lambda good: good,
}
BAD = tuple(_CHANGES)


class HostileEdge(HttpServer):
    """Fetches from a good edge, and sends something else.

    Args:
        good: URL of the good edge.
        mode: What it does: one of `BAD` or `SLOW`.
        others: Digests of the same size, for `swap`.

    Attributes:
        requests: Headers of each request.
    """

    def __init__(self, good: str, mode: str, others: Mapping[str, str]) -> None:
        self.requests: list[dict[str, str]] = []
        edge = self

        class Answering(Handler):
            def do_GET(self) -> None:
                edge.requests.append(dict(self.headers.items()))
                self.close_connection = True
                digest = self.path.rpartition("/")[2].partition("?")[0]
                name = others.get(digest, digest) if mode == "swap" else digest
                asked = self.headers["Range"]
                headers = {"Range": asked} if asked else {}
                found = request("GET", f"{good}/blobs/{name}", headers=headers)
                given = str(found.headers["Content-Range"] or "")
                answer = _Answer(found.status, given, len(found.body), found.body)
                self._send(_CHANGES[mode](answer) if mode in _CHANGES else answer)

            def _send(self, answer: _Answer) -> None:
                if mode == "silent":
                    time.sleep(300)
                self.send_response(answer.status)
                if mode == "slow head":
                    self.flush_headers()
                    self._drip(b"X-Slow: " + 30_000 * b"x")
                self.send_header("Location", "http://127.0.0.1:1/")
                self.send_header("WWW-Authenticate", 'Basic realm="edge"')
                self.send_header("Content-Range", answer.content_range)
                self.send_header("Content-Length", str(answer.length))
                self.end_headers()
                if mode == "slow body":
                    self._drip(answer.body)
                else:
                    self.wfile.write(answer.body)

            def _drip(self, content: bytes) -> None:
                for byte in content:
                    self.wfile.write(bytes([byte]))
                    time.sleep(_BYTE_S)

        super().__init__(Answering)
        self.url = f"http://localhost:{self.port}"
