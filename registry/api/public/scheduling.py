"""Networking, queues and scaling. Only the scheduler uses them; they are stored and returned as sent."""

from typing import Annotated

from pydantic import Field

from registry.api.public.shapes import Integer, Omittable, Shape, Text

LoadBalancer = Annotated[Text, Field(examples=["round_robin", "least_number_of_connections"])]


class Networking(Shape):
    """Network access to a group's instances ("CreateContainerGroupNetworking")."""

    auth: bool
    port: Integer
    protocol: Annotated[Text, Field(examples=["http"])]
    load_balancer: Omittable[LoadBalancer] = "round_robin"
    client_request_timeout: Omittable[Integer] = 100_000
    server_response_timeout: Omittable[Integer] = 100_000
    single_connection_limit: Omittable[bool] = False


class ServedNetworking(Networking):
    """Networking in a response ("ContainerGroupNetworking")."""

    dns: str


class QueueConnection(Shape):
    """The job queue of a group."""

    path: Text
    port: Integer
    queue_name: Text


class QueueAutoscaler(Shape):
    """Number of replicas by the length of the queue."""

    desired_queue_length: Integer
    max_replicas: Integer
    min_replicas: Integer
    max_downscale_per_minute: Omittable[Integer] = None
    max_upscale_per_minute: Omittable[Integer] = None
    polling_period: Omittable[Integer] = None


class ScalingAction(Shape):
    """Number of replicas by a time schedule."""

    replicas: Integer
    schedule: Annotated[Text, Field(examples=["0 8 * * 1-5"])]
