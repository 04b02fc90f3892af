"""Instances, and what their use-cases ask of the outside."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from auth.audit import EventType
from auth.ports import AuditEvent
from registry.audit.types import EVENT_TYPES
from registry.model.groups import Group


class InstanceState(StrEnum):
    """How far a node is with a group's image, in the words of SaladCloud's public API."""

    ALLOCATING = "allocating"  # designated; has not asked yet
    DOWNLOADING = "downloading"
    CREATING = "creating"  # has the image
    RUNNING = "running"  # says its scheduler
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Instance:
    """A node that is designated for a group.

    Attributes:
        version: Of the group's image that the node was designated for last.
        token_id: The newest pull token of this designation.
        deletion_cost: The scheduler's; what it costs to give this instance up.
        updated_at: When it came into its state.
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
    """Make an event of a group's instance. The token is named in the detail: its own events are apart."""
    named = {"instance_id": instance.id, "version": instance.version, "token_id": instance.token_id}
    made = group.event(type_, {**named, **facts}, cause=cause, source=source)
    return replace(made, node_id=instance.node_id)


def state_event(
    state: InstanceState, group: Group, instance: Instance, *, source: str | None = None
) -> AuditEvent:
    """Make the event that says which state an instance comes into."""
    return instance_event(EVENT_TYPES[f"instance.{state.value}"], group, instance, source=source)
