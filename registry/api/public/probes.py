"""Health probes: the scheduler's business; validated, kept and given back."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from registry.api.public.shapes import Argument, Omittable, Path, Shape


class ProbeHeader(Shape):
    """A header that an HTTP probe sends."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^.*$")]
    value: Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^.*$")]


class ExecProbe(Shape):
    """A command whose exit status tells."""

    command: Annotated[list[Argument], Field(min_length=1, max_length=100)]


class GrpcProbe(Shape):
    """A gRPC health service."""

    port: Annotated[int, Field(ge=0, le=65536)]
    service: Annotated[str, StringConstraints(max_length=1024, pattern=r"^.*$")]


class HttpProbe(Shape):
    """An HTTP request whose status tells."""

    headers: Annotated[list[ProbeHeader], Field(min_length=1, max_length=50)]
    path: Path
    port: Annotated[int, Field(ge=0, le=65536)]
    scheme: Literal["http", "https"] | None


class TcpProbe(Shape):
    """A port that takes connections."""

    port: Annotated[int, Field(ge=0, le=65535)]


class _Probe(Shape):
    exec_: Omittable[ExecProbe] = Field(default=None, alias="exec")
    grpc: Omittable[GrpcProbe] = None
    http: Omittable[HttpProbe] = None
    tcp: Omittable[TcpProbe] = None
    initial_delay_seconds: Annotated[int, Field(ge=0, le=1200)] = 0


class LivenessProbe(_Probe):
    """Restarts a container that fails it."""

    failure_threshold: Annotated[int, Field(ge=1, le=20)] = 3
    period_seconds: Annotated[int, Field(ge=1, le=120)] = 10
    success_threshold: Annotated[int, Field(ge=1, le=10)] = 1
    timeout_seconds: Annotated[int, Field(ge=1, le=60)] = 30


class ReadinessProbe(_Probe):
    """Keeps traffic from a container that fails it."""

    failure_threshold: Annotated[int, Field(ge=1, le=20)] = 3
    period_seconds: Annotated[int, Field(ge=1, le=120)] = 1
    success_threshold: Annotated[int, Field(ge=1, le=10)] = 1
    timeout_seconds: Annotated[int, Field(ge=1, le=60)] = 1


class StartupProbe(_Probe):
    """Holds the other probes back until a container has started."""

    failure_threshold: Annotated[int, Field(ge=1, le=20)] = 15
    period_seconds: Annotated[int, Field(ge=1, le=120)] = 3
    success_threshold: Annotated[int, Field(ge=1, le=10)] = 2
    timeout_seconds: Annotated[int, Field(ge=1, le=60)] = 10
