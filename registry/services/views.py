"""Inputs and results of the use-cases of container groups."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from registry.model.groups import Group
from registry.model.imports import Progress
from registry.model.instances import Instance, InstanceState
from registry.model.pulls import Pull

Spec = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NewGroup:
    """A validated request for a container group.

    Attributes:
        image: The reference as the customer wrote it, not yet parsed.
        autostart: Whether the group enters `deploying` as soon as its image is stored.
        spec: All other stored fields, JSON-serialisable; contains no credentials.
        registry_authentication: The public API's field of that name, unencrypted; None for a public image.
    """

    image: str
    autostart: bool
    spec: Spec = field(repr=False)
    registry_authentication: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class GroupChange:
    """A validated change of a container group.

    Attributes:
        amend: Derives the new spec from the current one. Raises InvalidInputError: the result is invalid.
        image: The reference as the customer wrote it; None keeps the image.
        registry_authentication: As in `NewGroup`; used only if the image is pulled.
        pull: Whether to pull the image again even if its reference is unchanged.
    """

    amend: Callable[[Spec], Spec]
    image: str | None = None
    registry_authentication: Mapping[str, Any] | None = field(default=None, repr=False)
    pull: bool = False


@dataclass(frozen=True, slots=True)
class GroupView:
    """A container group as its owner sees it.

    Attributes:
        description: The sentence that explains the status; during an import, its progress.
        progress: Last known progress of a running import.
        counts: Number of its instances by state.
    """

    group: Group
    description: str
    progress: Progress | None = None
    counts: Mapping[InstanceState, int] = field(default_factory=dict)

    @property
    def etag(self) -> str:
        """HTTP entity tag of the group's desired state; status and progress do not change it."""
        return f'"{self.group.id}-{self.group.revision}"'


@dataclass(frozen=True, slots=True)
class GroupPage:
    """A page of a project's groups, oldest first.

    Attributes:
        next_after: Cursor for the next page; None on the last page.
    """

    views: Sequence[GroupView]
    next_after: str | None = None


@dataclass(frozen=True, slots=True)
class InstanceView:
    """An instance as its owner sees it.

    Attributes:
        progress: How much of the image its node has, 0 to 100; None unless it is downloading.
        newer: The pull of a newer version, by a node that has an older one.
    """

    instance: Instance
    group: Group
    progress: float | None = None
    newer: Pull | None = None
