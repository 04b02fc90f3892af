"""The public API's instances."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from registry.api.endpoint import Call, Endpoint
from registry.api.http.bodies import JSON, MERGE_PATCH
from registry.api.public.application import GROUP, READ, WRITE, group_key
from registry.api.public.shapes import Count, Omittable, Shape, Uuid
from registry.model.group_logs import machine_id
from registry.model.groups import GroupKey
from registry.services import instances
from registry.services.views import InstanceView

_ALL: Final = f"{GROUP}/instances"
_ONE: Final = f"{_ALL}/{{container_group_instance_id}}"
_REPORTED: Final = frozenset(
    {
        "cpu_percent",
        "cpu_usage",
        "cpu_usage_total",
        "memory_usage_mb",
        "memory_usage_percent",
        "ssh_ip",
        "ssh_port",
        "ssh_host_key_fingerprint",
    }
)
_ACCEPTED: Final = "Accepted. The body is empty."


class ContainerGroupInstancePatch(Shape):
    """Changes of an instance ("ContainerGroupInstancePatch")."""

    deletion_cost: Annotated[int, Field(ge=0, le=100_000)] | None = None


class ContainerGroupInstance(Shape):
    """A node that is assigned to a group ("ContainerGroupInstance").

    Attributes:
        machine_id: The node's id if it is a UUID, which the shape requires; else a UUID derived from it.
        ready: Whether it runs and its readiness probe succeeds, as the scheduler has reported.
        started: Whether its startup probe has succeeded; always true without one.
    """

    id: Uuid
    machine_id: Uuid
    node_id: str
    state: Literal["allocating", "downloading", "creating", "running", "stopping"]
    update_time: datetime
    version: Annotated[int, Field(ge=1)]
    deletion_cost: Annotated[int, Field(ge=0, le=100_000)]
    pulling_progress: Omittable[Annotated[float, Field(ge=0, le=100)]] = None
    ready: bool
    started: bool
    cpu_percent: Omittable[float] = None
    cpu_usage: Omittable[Count] = None
    cpu_usage_total: Omittable[Count] = None
    memory_usage_mb: Omittable[float] = None
    memory_usage_percent: Omittable[float] = None
    ssh_ip: Omittable[str] = None
    ssh_port: Omittable[Annotated[int, Field(ge=1, le=65535)]] = None
    ssh_host_key_fingerprint: Omittable[Annotated[str, Field(max_length=256)]] = None

    @classmethod
    def of(cls, view: InstanceView) -> "ContainerGroupInstance":
        """Present an instance."""
        instance = view.instance
        reported = {name: value for name, value in instance.report.items() if name in _REPORTED}
        return cls(
            id=instance.id,
            machine_id=machine_id(instance.node_id),
            node_id=instance.node_id,
            state=instance.state.value,
            update_time=instance.updated_at,
            version=instance.version,
            deletion_cost=instance.deletion_cost,
            pulling_progress=view.progress,
            ready=instance.is_ready(view.group),
            started=instance.has_started(view.group),
            **reported,
        )


class ContainerGroupInstanceCollection(Shape):
    """A group's instances ("ContainerGroupInstanceCollection")."""

    instances: list[ContainerGroupInstance]

    @classmethod
    def of(cls, views: Sequence[InstanceView]) -> "ContainerGroupInstanceCollection":
        """Present instances in the given order."""
        return cls(instances=[ContainerGroupInstance.of(view) for view in views])


class InstancesApi:
    """Operations on a group's instances."""

    tag: ClassVar[str] = "container groups"

    def __init__(self, service: instances.Instances) -> None:
        self._instances = service

    @Endpoint("GET", _ALL, "The nodes assigned to the group.", errors=READ)
    async def list_container_group_instances(self, call: Call[None]) -> ContainerGroupInstanceCollection:
        """List instances."""
        return ContainerGroupInstanceCollection.of(await self._instances.list(group_key(call)))

    @Endpoint("GET", _ONE, "The instance.", status=202, errors=READ)
    async def get_container_group_instance(self, call: Call[None]) -> ContainerGroupInstance:
        """Get an instance.

        The status of the response is that of SaladCloud's reference.
        """
        return ContainerGroupInstance.of(await self._instances.get(*_named(call)))

    @Endpoint("PATCH", _ONE, "The instance.", body_types=(MERGE_PATCH, JSON), errors=WRITE)
    async def update_container_group_instance(
        self, call: Call[ContainerGroupInstancePatch]
    ) -> ContainerGroupInstance:
        """Update an instance."""
        patch = call.body
        if "deletion_cost" not in patch.model_fields_set:
            return ContainerGroupInstance.of(await self._instances.get(*_named(call)))
        view = await self._instances.set_deletion_cost(
            *_named(call), patch.deletion_cost or 0, source=call.source
        )
        return ContainerGroupInstance.of(view)

    @Endpoint("POST", f"{_ONE}/reallocate", _ACCEPTED, status=202, errors=WRITE)
    async def reallocate_container_group_instance(self, call: Call[None]) -> None:
        """Reallocate an instance.

        Its tokens are revoked, and its node is released.
        """
        await self._instances.reallocate(*_named(call), source=call.source)

    @Endpoint("POST", f"{_ONE}/recreate", _ACCEPTED, status=202, errors=WRITE)
    async def recreate_container_group_instance(self, call: Call[None]) -> None:
        """Recreate an instance.

        Its container is created again from the same image.
        """
        await self._instances.recreate(*_named(call), source=call.source)

    @Endpoint("POST", f"{_ONE}/restart", _ACCEPTED, status=202, errors=WRITE)
    async def restart_container_group_instance(self, call: Call[None]) -> None:
        """Restart an instance.

        Its container is stopped and started on the same node.
        """
        await self._instances.restart(*_named(call), source=call.source)


def _named(call: Call[Any]) -> tuple[GroupKey, str]:
    return group_key(call), call.path("container_group_instance_id")
