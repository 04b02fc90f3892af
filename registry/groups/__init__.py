"""Container groups: the use-cases over importing and pulling."""

from registry.groups.lifecycle import ContainerGroups
from registry.groups.values import GroupView, NewGroup

__all__ = ["ContainerGroups", "GroupView", "NewGroup"]
