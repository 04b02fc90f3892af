"""Traces of imports and pulls, for an OpenTelemetry collector (docs/tracing.md).

Off unless `OTEL_EXPORTER_OTLP_ENDPOINT` is set; steps then go to OpenTelemetry's no-op tracer. As with logs,
a process has one place where all of it goes, configured once. No attribute ever holds a token, a secret, a
credential, a query or an error's message.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import NoOpTracer, Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from registry.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_RATIO = "OTEL_TRACES_SAMPLER_ARG"
_EXPORT_S = 5


class _Sink:
    """Tracer of this process."""

    def __init__(self) -> None:
        self.tracer: Tracer = NoOpTracer()
        self.provider: TracerProvider | None = None


_sink = _Sink()


def enabled() -> bool:
    """Tell whether this process records spans."""
    return _sink.provider is not None


@contextmanager
def span(name: str, carrier: Mapping[str, str] | None = None) -> Iterator[Span]:
    """Record a step, as a child of the task's present one; an exception fails it by its class.

    Args:
        carrier: Request headers; their `traceparent` names the parent span (W3C Trace Context).
    """
    if carrier is None:
        step = _sink.tracer.start_span(name)
    else:
        parent = TraceContextTextMapPropagator().extract(carrier)
        step = _sink.tracer.start_span(name, parent, SpanKind.SERVER)
    # OpenTelemetry would record messages and stack traces, which may hold secrets.
    with trace.use_span(step, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield step
        except BaseException as error:
            fail(step, type(error).__qualname__)
            raise


def begin(name: str, within: Span) -> Span:
    """Begin a step within another, to be ended by its `end`, in any task."""
    return _sink.tracer.start_span(name, trace.set_span_in_context(within))


def fail(step: Span, kind: str) -> None:
    """Mark a step as failed, by a class or a status, never a message."""
    step.set_status(StatusCode.ERROR)
    step.set_attribute("error.type", kind)


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
    """Send what waits, and record nothing more. Blocks for some seconds where the collector is silent."""
    provider, _sink.provider, _sink.tracer = _sink.provider, None, NoOpTracer()
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
