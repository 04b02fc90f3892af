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


class KnownBy(StrEnum):
    """How it is known that a node has an image (registry/model/pulls.py)."""

    DELIVERED = "delivered"  # every blob was delivered to it, in this session or an earlier one
    REPORTED = "reported"  # the node or the scheduler reported it
    QUIET = "quiet"  # it has requested nothing for a while: a later request takes this back


@dataclass(frozen=True, slots=True)
class Instance:
    """Assignment of a node to a group.

    Attributes:
        version: Version of the group that the node has, or that it is pulling.
        token_id: Pull token from which the state follows.
        known_by: How it is known that the node has the image; None if it does not have it.
        is_watched: Whether an open pull can still change the state.
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
    known_by: KnownBy | None = None
    is_watched: bool = True
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
HOLDING: Final = (*HAS_IMAGE, InstanceState.STOPPING)
"""States of a node that has an image, and keeps it until it has that of a newer version."""


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


def state_event(group: Group, instance: Instance, *, source: str | None = None) -> AuditEvent:
    """Return the event for an instance that has entered its state."""
    facts = {"known_by": instance.known_by.value} if instance.known_by else {}
    return instance_event(
        EVENT_TYPES[f"instance.{instance.state.value}"], group, instance, facts, source=source
    )
