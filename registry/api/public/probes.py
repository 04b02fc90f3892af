"""Health probes. Only the scheduler uses them; they are stored and returned as sent."""

from typing import Annotated

from pydantic import Field

from registry.api.public.shapes import Integer, Items, Omittable, Shape, Text


class ProbeHeader(Shape):
    """A header that an HTTP probe sends."""

    name: Text
    value: Text


class ExecProbe(Shape):
    """A command that exits with 0 in a healthy container."""

    command: Items[Text]


class GrpcProbe(Shape):
    """A gRPC health service."""

    port: Integer
    service: Text


class HttpProbe(Shape):
    """An HTTP request that succeeds on a healthy container."""

    path: Text
    port: Integer
    headers: Omittable[Items[ProbeHeader]] = Field(default_factory=list)
    scheme: Annotated[Text | None, Field(examples=["http", "https"])] = None


class TcpProbe(Shape):
    """A port that accepts connections."""

    port: Integer


class _Probe(Shape):
    exec_: Omittable[ExecProbe] = Field(default=None, alias="exec")
    grpc: Omittable[GrpcProbe] = None
    http: Omittable[HttpProbe] = None
    tcp: Omittable[TcpProbe] = None
    initial_delay_seconds: Omittable[Integer] = 0


class LivenessProbe(_Probe):
    """Probe that restarts the container if it fails."""

    failure_threshold: Omittable[Integer] = 3
    period_seconds: Omittable[Integer] = 10
    success_threshold: Omittable[Integer] = 1
    timeout_seconds: Omittable[Integer] = 30


class ReadinessProbe(_Probe):
    """Probe that stops traffic to the container while it fails."""

    failure_threshold: Omittable[Integer] = 3
    period_seconds: Omittable[Integer] = 1
    success_threshold: Omittable[Integer] = 1
    timeout_seconds: Omittable[Integer] = 1


class StartupProbe(_Probe):
    """Probe that delays the other probes until the container has started."""

    failure_threshold: Omittable[Integer] = 15
    period_seconds: Omittable[Integer] = 3
    success_threshold: Omittable[Integer] = 2
    timeout_seconds: Omittable[Integer] = 10
