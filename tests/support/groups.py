"""Transitions of groups that a test has made by hand."""

from registry.audit.types import RegistryEventType
from registry.model.groups import Group, GroupTransition


def created(group: Group) -> GroupTransition:
    return GroupTransition(group, group.event(RegistryEventType.GROUP_CREATED))


def updated(group: Group) -> GroupTransition:
    return GroupTransition(group, group.event(RegistryEventType.GROUP_UPDATED))
