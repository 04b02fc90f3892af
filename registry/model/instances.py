"""Instances: nodes that are assigned to a container group, and the port to the catalog."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from auth.ports import AuditEvent
from registry.audit.trail import NO_FACTS
from registry.model.groups import Group, group_event


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


def instance_event(
    type_: str,
    group: Group,
    instance: Instance,
    facts: Mapping[str, object] = NO_FACTS,
    *,
    cause: str | None = None,
    source: str | None = None,
) -> AuditEvent:
    """Return an audit event about an instance. Token events are recorded separately."""
    named = {"instance_id": instance.id, "version": instance.version, "token_id": instance.token_id}
    told = group_event(type_, group.id, group.key, {**named, **facts}, cause=cause, source=source)
    return replace(told, node_id=instance.node_id)


class InstanceCatalog(Protocol):
    """Store of instances.

    Each change is written in one transaction with its audit event, and only if the instance is unchanged
    since it was read.
    """

    async def designate(self, group: Group, node_id: str, version: int, token_id: str) -> Instance:
        """Record a minted token: create the node's instance, or reset it to its first state."""

    async def of_group(self, group_id: str) -> Sequence[Instance]:
        """Return a group's instances, oldest first."""

    async def get(self, group_id: str, instance_id: str) -> Instance | None:
        """Return an instance of a group, or None."""

    async def counts(self, group_ids: Sequence[str]) -> Mapping[str, Mapping[InstanceState, int]]:
        """Count the instances of groups by state. Groups without instances are omitted."""

    async def unsettled(self, limit: int) -> Sequence[tuple[Group, Instance]]:
        """Return instances that are allocating or downloading, the least recently checked first."""

    async def advance(
        self, group: Group, instance: Instance, state: InstanceState, event: AuditEvent
    ) -> bool:
        """Set an instance's state. The first one with the image changes a deploying group to running."""

    async def set_deletion_cost(self, instance_id: str, cost: int, event: AuditEvent) -> bool:
        """Set an instance's deletion cost. Returns False if the instance is gone."""

    async def tokens(self, instance_id: str) -> Sequence[str]:
        """Return all tokens of an instance that may still be valid."""

    async def free(self, instance: Instance, event: AuditEvent) -> bool:
        """Remove an instance, which releases its node. Returns False if it is gone or has changed."""

    async def free_all(self, group: Group) -> int:
        """Remove all instances of a group. Returns their number."""
