"""A container group in responses ("ContainerGroup")."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal

from registry.api.public.container import Priority, ServedContainer
from registry.api.public.prototype import KeptSpec
from registry.api.public.scheduling import ServedNetworking
from registry.api.public.shapes import Count, Omittable, Shape
from registry.model.groups import GroupKey, GroupStatus
from registry.model.instances import InstanceState
from registry.services.views import GroupView

MAX_DESCRIPTION_LENGTH: Final = 1000


class InstanceStatusCounts(Shape):
    """Numbers of instances by state ("ContainerGroupInstanceStatusCount")."""

    allocating_count: Count
    creating_count: Count
    running_count: Count
    stopping_count: Count


class ContainerGroupState(Shape):
    """Status of a group ("ContainerGroupState").

    Attributes:
        start_time: Time at which the group was created.
        finish_time: Time of the last change of status. SaladCloud's reference requires it, also for a group
            that runs.
    """

    status: Literal["pending", "running", "stopped", "succeeded", "failed", "deploying"]
    description: str | None
    start_time: datetime
    finish_time: datetime
    instance_status_counts: InstanceStatusCounts


class ContainerGroup(KeptSpec):
    """A container group ("ContainerGroup"): as sent, with the reference's defaults for omitted fields."""

    id: str
    name: str
    organization_name: str
    project_name: str
    container: ServedContainer
    networking: Omittable[ServedNetworking] = None
    autostart_policy: bool
    current_state: ContainerGroupState
    priority: Priority | None
    version: int
    pending_change: bool
    create_time: datetime
    update_time: datetime

    @classmethod
    def of(cls, view: GroupView) -> "ContainerGroup":
        """Present a group."""
        group = view.group
        spec: dict[str, Any] = {"display_name": group.key.name, **group.spec}
        if networking := spec.get("networking"):
            spec["networking"] = {**networking, "dns": _dns(group.key)}
        container = {
            **spec["container"],
            "image": group.image,
            "hash": str(group.image_digest) if group.image_digest else None,
            "size": group.image_size_bytes,
        }
        return cls.model_validate(
            {
                **spec,
                "id": group.id,
                "name": group.key.name,
                "organization_name": group.key.organization,
                "project_name": group.key.project,
                "container": container,
                "autostart_policy": group.autostart,
                "current_state": _state(view),
                "priority": container.get("priority"),
                "version": group.version,
                "pending_change": group.pending_change,
                "create_time": group.created_at,
                "update_time": group.updated_at,
            }
        )


class ContainerGroupCollection(Shape):
    """A project's container groups ("ContainerGroupCollection")."""

    items: list[ContainerGroup]

    @classmethod
    def of(cls, views: Sequence[GroupView]) -> "ContainerGroupCollection":
        """Present groups in the given order."""
        return cls(items=[ContainerGroup.of(view) for view in views])


def _state(view: GroupView) -> ContainerGroupState:
    group = view.group
    return ContainerGroupState(
        status=group.status.value,
        description=" ".join(view.description.split())[:MAX_DESCRIPTION_LENGTH],  # one line only
        start_time=group.created_at,
        finish_time=group.status_since,
        instance_status_counts=_counts(view),
    )


def _counts(view: GroupView) -> InstanceStatusCounts:
    """Count instances by the shape's states. It has no `downloading`, which counts as `creating`.

    Replicas without an instance are being allocated, if the group is up.
    """
    counts, group = view.counts, view.group
    is_up = group.status in {GroupStatus.DEPLOYING, GroupStatus.RUNNING}
    missing = max(0, group.spec["replicas"] - sum(counts.values())) if is_up else 0
    creating = counts.get(InstanceState.DOWNLOADING, 0) + counts.get(InstanceState.CREATING, 0)
    return InstanceStatusCounts(
        allocating_count=counts.get(InstanceState.ALLOCATING, 0) + missing,
        creating_count=creating,
        running_count=counts.get(InstanceState.RUNNING, 0),
        stopping_count=counts.get(InstanceState.STOPPING, 0),
    )


def _dns(key: GroupKey) -> str:
    """Return the value of the required field `networking.dns`. Crisper does not serve this name.

    ICANN reserves the zone `internal` for private use.
    """
    return f"{key.name}.{key.project}.{key.organization}.internal"
