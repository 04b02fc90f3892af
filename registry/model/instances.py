"""Instances, and what their use-cases ask of the outside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Protocol

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


class InstanceCatalog(Protocol):
    """Which nodes are designated for which groups, and how far they are.

    An instance changes in one transaction with its event, and only while it is as it was read.
    """

    async def designate(self, group: Group, node_id: str, version: int, token_id: str) -> Instance:
        """Store that a token was minted: the node becomes an instance, or its instance starts again."""

    async def of_group(self, group_id: str) -> Sequence[Instance]:
        """Return a group's instances, oldest first."""

    async def get(self, group_id: str, instance_id: str) -> Instance | None:
        """Return one of a group's instances."""

    async def counts(self, group_ids: Sequence[str]) -> Mapping[str, Mapping[InstanceState, int]]:
        """Count the instances of groups by state; groups without any are left out."""

    async def unsettled(self, limit: int) -> Sequence[tuple[Group, Instance]]:
        """Return instances that still allocate or download, the least recently checked first."""

    async def advance(
        self, group: Group, instance: Instance, state: InstanceState, event: AuditEvent
    ) -> bool:
        """Set an instance's state, with the event; the first with the image makes its group running."""

    async def set_deletion_cost(self, instance_id: str, cost: int, event: AuditEvent) -> bool:
        """Change an instance's deletion cost, with the event. False when it is gone."""

    async def tokens(self, instance_id: str) -> Sequence[str]:
        """Return every token of a designation that may not be over."""

    async def free(self, instance: Instance, event: AuditEvent) -> bool:
        """End a designation."""

    async def free_all(self, group: Group) -> int:
        """End every designation of a group; return how many there were."""
