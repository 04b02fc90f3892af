"""Networking, queues and scaling: the scheduler's business; validated, kept and given back."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from registry.api.public.shapes import Name, Omittable, Port, Replicas, Shape

TimeoutMs = Annotated[int, Field(ge=1, le=100_000)]


class Networking(Shape):
    """How a group's instances are reached ("CreateContainerGroupNetworking")."""

    auth: bool
    port: Port
    protocol: Literal["http"]
    load_balancer: Literal["round_robin", "least_number_of_connections"] = "round_robin"
    client_request_timeout: TimeoutMs = 100_000
    server_response_timeout: TimeoutMs = 100_000
    single_connection_limit: bool = False


class ServedNetworking(Networking):
    """Networking as it is answered ("ContainerGroupNetworking")."""

    dns: str


class QueueConnection(Shape):
    """The job queue that feeds a group."""

    path: Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^.*$")]
    port: Port
    queue_name: Name


class QueueAutoscaler(Shape):
    """Replicas after the length of the queue."""

    desired_queue_length: Annotated[int, Field(ge=1, le=100)]
    max_replicas: Annotated[int, Field(ge=1, le=500)]
    min_replicas: Annotated[int, Field(ge=0, le=100)]
    max_downscale_per_minute: Omittable[Annotated[int, Field(ge=1, le=100)]] = None
    max_upscale_per_minute: Omittable[Annotated[int, Field(ge=1, le=100)]] = None
    polling_period: Omittable[Annotated[int, Field(ge=15, le=1800)]] = None


class ScalingAction(Shape):
    """Replicas after the clock."""

    replicas: Replicas
    schedule: Annotated[
        str, StringConstraints(pattern=r"^([0-9A-Za-z*/,-]+)([\t ]+[0-9A-Za-z*/,-]+){4}$", max_length=256)
    ]
