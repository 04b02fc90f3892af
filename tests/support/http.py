"""One HTTP request, without a client's opinions: no redirects, no decoding, no retries."""

import json
import ssl
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPMessage, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Response:
    """Status, headers and the whole body."""

    status: int
    headers: HTTPMessage
    body: bytes

    def json(self) -> Any:  # noqa: ANN401 - whatever the server sent
        return json.loads(self.body)

    def expect(self, *statuses: int) -> "Response":
        """Return itself, or raise an AssertionError that shows the server's answer."""
        if self.status not in statuses:
            shown = self.body[:2_000].decode(errors="replace")
            raise AssertionError(f"expected {statuses}, the server said {self.status}: {shown}")
        return self


def request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | Iterable[bytes] | Mapping[str, Any] | None = None,
    timeout_s: float = 30,
    tls: ssl.SSLContext | None = None,
    source: str | None = None,
) -> Response:
    """Send one request; a mapping as `body` goes out as JSON, an iterable part by part.

    `tls` is for `https://`; `source` is the loopback address that the request comes from.
    """
    parts = urlsplit(url)
    sent = dict(headers or {})
    if isinstance(body, Mapping):
        sent.setdefault("Content-Type", "application/json")
        body = json.dumps(body).encode()
    host, port = parts.hostname or "", parts.port
    connection = (
        HTTPSConnection(host, port, timeout=timeout_s, context=tls)
        if parts.scheme == "https"
        else HTTPConnection(host, port, timeout=timeout_s, source_address=(source, 0) if source else None)
    )
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body=body, headers=sent)
        answer = connection.getresponse()
        return Response(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def basic(username: str, password: str) -> str:
    """Return the value of an Authorization header (RFC 7617)."""
    return "Basic " + b64encode(f"{username}:{password}".encode()).decode()
