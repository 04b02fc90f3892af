"""Instances: nodes that are assigned to a container group."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from auth.audit import EventType
from auth.ports import AuditEvent
from registry.audit.types import EVENT_TYPES
from registry.model.groups import Group


class InstanceState(StrEnum):
    """States of an instance, as in SaladCloud's public API."""

    ALLOCATING = "allocating"  # assigned; has not pulled yet
    DOWNLOADING = "downloading"
    CREATING = "creating"  # has the image
    RUNNING = "running"  # reported by the scheduler
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Instance:
    """Assignment of a node to a group.

    Attributes:
        version: Version of the group's image for which the newest token was minted.
        token_id: Newest pull token of this instance.
        deletion_cost: Cost of removing this instance, set by the scheduler.
        updated_at: Time of the last change of state.
        report: What the scheduler has reported about its container, by the names of SaladCloud's API.
    """

    id: str
    group_id: str
    node_id: str
    version: int
    token_id: str
    state: InstanceState
    deletion_cost: int
    created_at: datetime
    updated_at: datetime
    report: Mapping[str, Any] = field(default_factory=dict)

    def has_started(self, group: Group) -> bool:
        """Return whether its startup probe has succeeded: always without one, else as reported."""
        started: bool = self.report.get("started", self.state is InstanceState.RUNNING)
        return started or not group.has_probe("startup")

    def is_ready(self, group: Group) -> bool:
        """Return whether it runs and its readiness probe succeeds, as reported; true without a report."""
        runs = self.state is InstanceState.RUNNING and self.has_started(group)
        ready: bool = self.report.get("ready", True)
        return runs and ready


UNSETTLED: Final = (InstanceState.ALLOCATING, InstanceState.DOWNLOADING)
"""States that end by what the node does with its token."""
HAS_IMAGE: Final = (InstanceState.CREATING, InstanceState.RUNNING)


def instance_event(
    type_: EventType,
    group: Group,
    instance: Instance,
    facts: Mapping[str, object] = MappingProxyType({}),
    *,
    cause: str | None = None,
    source: str | None = None,
) -> AuditEvent:
    """Return an event about an instance. The detail names the token, which has its own events."""
    named = {"instance_id": instance.id, "version": instance.version, "token_id": instance.token_id}
    made = group.event(type_, {**named, **facts}, cause=cause, source=source)
    return replace(made, node_id=instance.node_id)


def state_event(
    state: InstanceState, group: Group, instance: Instance, *, source: str | None = None
) -> AuditEvent:
    """Return the event for an instance's new state."""
    return instance_event(EVENT_TYPES[f"instance.{state.value}"], group, instance, source=source)
