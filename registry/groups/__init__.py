"""Container groups, their instances, their owners' keys and webhooks: the use-cases over the rest."""

from registry.groups.instances import Instances
from registry.groups.keys import ApiKeys, hash_api_key
from registry.groups.lifecycle import ContainerGroups
from registry.groups.values import GroupChange, GroupPage, GroupView, InstanceView, NewGroup

__all__ = [
    "ApiKeys",
    "ContainerGroups",
    "GroupChange",
    "GroupPage",
    "GroupView",
    "InstanceView",
    "Instances",
    "NewGroup",
    "hash_api_key",
]
