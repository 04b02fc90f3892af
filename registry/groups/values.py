"""What goes into the use-cases of container groups and what comes out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from registry.ports import Group, Progress


@dataclass(frozen=True, slots=True)
class NewGroup:
    """A validated request for a container group.

    Attributes:
        image: The reference as the customer wrote it, not yet read.
        autostart: Whether the group goes on to `deploying` once its image is stored.
        spec: Everything else that is kept, JSON-serialisable; holds no credential.
        registry_authentication: The public API's field of that name, in the clear; None for a public image.
    """

    image: str
    autostart: bool
    spec: Mapping[str, Any]
    registry_authentication: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class GroupView:
    """A container group as its owner sees it.

    Attributes:
        description: The sentence beside the status: an import's progress while there is one.
        progress: Of an import that is running, as far as is known.
    """

    group: Group
    description: str
    progress: Progress | None = None
