"""The operator API's instances: a scheduler lists them and reports their states."""

from ipaddress import IPv4Address
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from registry.api.endpoint import Call, Endpoint
from registry.api.operator.shapes import GROUP, Body, Count, Document, Instant
from registry.model.groups import GroupKey
from registry.model.instances import InstanceState
from registry.services import instances
from registry.services.views import InstanceView

Amount = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]
Total = Annotated[int, Field(ge=0, le=(1 << 63) - 1)]


class InstanceReport(Body):
    """A scheduler's report about an instance's container. Of the optional fields, null removes a value.

    Attributes:
        started: Whether the startup probe has succeeded.
        ready: Whether the readiness probe succeeds.
    """

    state: Literal["creating", "running", "stopping"]
    started: bool | None = None
    ready: bool | None = None
    cpu_percent: Amount | None = None
    cpu_usage: Total | None = None
    cpu_usage_total: Total | None = None
    memory_usage_mb: Amount | None = None
    memory_usage_percent: Amount | None = None
    ssh_ip: Annotated[str, AfterValidator(lambda text: str(IPv4Address(text)))] | None = None
    ssh_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    ssh_host_key_fingerprint: Annotated[str, Field(min_length=1, max_length=256)] | None = None


class Instance(Document):
    """Assignment of a node to a group.

    Attributes:
        known_by: How it is known that the node has the image: every blob was delivered; the node or the
            scheduler reported it; or the node has requested nothing for a while, which a later request takes
            back. Null if it does not have the image.
    """

    instance_id: str
    organization_name: str
    project_name: str
    container_group_name: str
    node_id: str
    state: Literal["allocating", "downloading", "creating", "running", "stopping"]
    known_by: Literal["delivered", "reported", "quiet"] | None
    version: Annotated[int, Field(ge=1)]
    token_id: str
    deletion_cost: Count
    pulling_progress: Annotated[float, Field(ge=0, le=100)] | None
    created_at: Instant
    updated_at: Instant

    @classmethod
    def of(cls, key: GroupKey, view: InstanceView) -> "Instance":
        """Present an instance of a group."""
        found = view.instance
        return cls(
            instance_id=found.id,
            organization_name=key.organization,
            project_name=key.project,
            container_group_name=key.name,
            node_id=found.node_id,
            state=found.state.value,
            known_by=found.known_by.value if found.known_by else None,
            version=found.version,
            token_id=found.token_id,
            deletion_cost=found.deletion_cost,
            pulling_progress=view.progress,
            created_at=found.created_at,
            updated_at=found.updated_at,
        )


class Instances(Document):
    """A group's instances, oldest first."""

    items: list[Instance]


class InstancesApi:
    """Operations on a group's instances."""

    tag: ClassVar[str] = "instances"

    def __init__(self, service: instances.Instances) -> None:
        self._instances = service

    @Endpoint(
        "GET", f"{GROUP}/instances", "The nodes assigned to the group, and their tokens.", errors=(404,)
    )
    async def list_instances(self, call: Call[None]) -> Instances:
        """List a group's instances."""
        key = group_of(call)
        return Instances(items=[Instance.of(key, view) for view in await self._instances.list(key)])

    @Endpoint("POST", f"{GROUP}/instances/{{instance_id}}/report", "The instance.", errors=(404,))
    async def report_instance(self, call: Call[InstanceReport]) -> Instance:
        """Report the state of an instance's container, its probes and its use of the machine."""
        key, state = group_of(call), InstanceState(call.body.state)
        details = call.body.model_dump(exclude_unset=True, exclude={"state"})
        view = await self._instances.report(call.path("instance_id"), key, state, details, source=call.source)
        return Instance.of(key, view)


def group_of(call: Call[Any]) -> GroupKey:
    """Return the group that the path names."""
    return GroupKey(
        call.path("organization_name"), call.path("project_name"), call.path("container_group_name")
    )
