"""Traces of imports and pulls, for an OpenTelemetry collector (docs/tracing.md).

Off unless `OTEL_EXPORTER_OTLP_ENDPOINT` is set; a step then costs one call that does nothing. As with logs,
a process has one place where all of it goes, configured once. No attribute ever holds a token, a secret, a
credential, a query or an error's message.
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
    """One step, and what is known of it. This one does nothing: traces are off."""

    def set(self, name: str, value: str | int) -> None:
        """Say something of the step; never a secret."""

    def fail(self, kind: str) -> None:
        """Say that it failed: a class or a status, never a message."""

    def begin(self, name: str) -> "Span":  # noqa: ARG002
        """Begin a step within this one, to be ended by `end`, in any task."""
        return self

    def end(self) -> None:
        """End it, where it was begun by `begin`."""

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
    """Where this process's spans go."""

    def __init__(self) -> None:
        self.tracer: Tracer | None = None
        self.provider: TracerProvider | None = None


_sink = _Sink()


def enabled() -> bool:
    """Tell whether this process records spans."""
    return _sink.tracer is not None


def span(name: str, carrier: Mapping[str, str] | None = None) -> Span:
    """Return a step to be entered with `with`; a child of the task's present one.

    Args:
        carrier: Headers whose `traceparent` names the parent (W3C Trace Context), where a request began it.
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
    """Begin to record, if a collector is named in the environment; once per process.

    Args:
        service: The name of this service in traces, where OTEL_SERVICE_NAME gives no other.

    Raises:
        ConfigError: A collector is named, and the libraries that speak to one are not installed.
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
        raise ConfigError(f"{ENDPOINTS[0]} is set: install crisper-registry[tracing], or unset it") from None
    # Whoever calls says which trace a request belongs to, not whether it is recorded: that is the operator's.
    sampler = TraceIdRatioBased(_ratio())
    sampled = ParentBased(sampler, remote_parent_sampled=sampler, remote_parent_not_sampled=sampler)
    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", service)})
    _sink.provider = TracerProvider(sampled, resource, shutdown_on_exit=False)
    _sink.provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=_EXPORT_S)))
    _sink.tracer = _sink.provider.get_tracer("crisper")


def close() -> None:
    """Send what waits, and record nothing more. Blocks for some seconds where the collector is silent."""
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
        raise ConfigError(f"{_RATIO} is the share of requests to trace: a number from 0 to 1")
    return ratio
