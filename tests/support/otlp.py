"""A collector of traces: takes OTLP over HTTP on loopback, and keeps every span."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.http_server import Handler, HttpServer


class Collector:
    """What was received, and where to send it.

    Attributes:
        spans: Every span, in the order of arrival.
        text: Everything that was sent, as text: what must not hold a secret.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.text = ""
        self.endpoint = ""
        self._lock = Lock()

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        found = [
            span
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self.spans += found
            self.text += str(request)

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


@contextmanager
def collector() -> Iterator[Collector]:
    """Run a collector."""
    collected = Collector()

    class Collecting(Handler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collected.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.answer(200)

    with HttpServer(Collecting) as server:
        collected.endpoint = f"http://127.0.0.1:{server.port}"
        yield collected


def attributes(span: Span) -> dict[str, str | int]:
    """Return a span's attributes as plain values."""
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}
