"""Traces of imports and pulls, for an OpenTelemetry collector (docs/tracing.md).

Disabled unless `OTEL_EXPORTER_OTLP_ENDPOINT` is set; a span then costs one call to a no-op. As with logging,
a process has one exporter, configured once. Attributes never contain a token, a secret, a credential, a query
string or an error message.
"""

import os
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from registry.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_RATIO = "OTEL_TRACES_SAMPLER_ARG"
_EXPORT_S = 5


class Span:
    """No-op span, for when tracing is disabled."""

    def set(self, name: str, value: str | int) -> None:
        """Set an attribute. Never a secret."""

    def fail(self, kind: str) -> None:
        """Mark the span as failed, by error class or HTTP status, never by message."""

    def begin(self, name: str) -> "Span":  # noqa: ARG002
        """Start a child span. The caller ends it with `end`, in any task."""
        return self

    def end(self) -> None:
        """End a span that `begin` started."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class _LiveSpan(Span):
    def __init__(self, tracer: "Tracer", span: "OtelSpan") -> None:
        self._tracer = tracer
        self._span = span
        self._within: Context | None = None
        self._entered: object = None

    def set(self, name: str, value: str | int) -> None:
        self._span.set_attribute(name, value)

    def fail(self, kind: str) -> None:
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 (an extra; this process has it)

        self._span.set_status(StatusCode.ERROR)
        self._span.set_attribute("error.type", kind)

    def begin(self, name: str) -> Span:
        return _LiveSpan(self._tracer, self._tracer.start_span(name, self._within))

    def end(self) -> None:
        self._span.end()

    def __enter__(self) -> Self:
        from opentelemetry.context import attach  # noqa: PLC0415
        from opentelemetry.trace import set_span_in_context  # noqa: PLC0415

        self._within = set_span_in_context(self._span)
        self._entered = attach(self._within)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from opentelemetry.context import detach  # noqa: PLC0415

        if kind is not None:
            self.fail(kind.__qualname__)
        detach(self._entered)  # type: ignore[arg-type]
        self._span.end()


_NOTHING = Span()


class _Sink:
    """Tracer of this process."""

    def __init__(self) -> None:
        self.tracer: Tracer | None = None
        self.provider: TracerProvider | None = None


_sink = _Sink()


def enabled() -> bool:
    """Return whether this process records spans."""
    return _sink.tracer is not None


def span(name: str, carrier: Mapping[str, str] | None = None) -> Span:
    """Return a span for a `with` statement, as a child of the task's current span.

    Args:
        carrier: Request headers; their `traceparent` names the parent span (W3C Trace Context).
    """
    tracer = _sink.tracer
    if tracer is None:
        return _NOTHING
    from opentelemetry.trace import SpanKind  # noqa: PLC0415
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    if carrier is None:
        return _LiveSpan(tracer, tracer.start_span(name))
    parent = TraceContextTextMapPropagator().extract(carrier)
    return _LiveSpan(tracer, tracer.start_span(name, parent, SpanKind.SERVER))


def configure(service: str) -> None:
    """Enable tracing if the environment names a collector. Call once per process.

    Args:
        service: Name of this service in traces, unless OTEL_SERVICE_NAME is set.

    Raises:
        ConfigError: A collector is named, but the OpenTelemetry libraries are not installed.
    """
    if _sink.provider is not None or not any(map(os.environ.get, ENDPOINTS)):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            f"{ENDPOINTS[0]} is set, but tracing is not installed: install crisper-registry[tracing]"
        ) from None
    # Callers choose the trace of a request. Only the operator's ratio decides whether it is recorded.
    sampler = TraceIdRatioBased(_ratio())
    sampled = ParentBased(sampler, remote_parent_sampled=sampler, remote_parent_not_sampled=sampler)
    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", service)})
    _sink.provider = TracerProvider(sampled, resource, shutdown_on_exit=False)
    _sink.provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=_EXPORT_S)))
    _sink.tracer = _sink.provider.get_tracer("crisper")


def close() -> None:
    """Flush pending spans and stop recording. Blocks for a few seconds if the collector does not answer."""
    provider, _sink.provider, _sink.tracer = _sink.provider, None, None
    if provider is not None:
        provider.shutdown()


def _ratio() -> float:
    text = os.environ.get(_RATIO, "1")
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise ConfigError(f"{_RATIO} is the share of requests to trace: set it to a number from 0 to 1")
    return ratio
