"""What goes into the use-cases of container groups and what comes out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from registry.model.groups import Group
from registry.model.imports import Progress
from registry.model.instances import Instance, InstanceState

Spec = Mapping[str, Any]


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
    spec: Spec
    registry_authentication: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class GroupChange:
    """A validated change of a container group.

    Attributes:
        amend: Makes the new spec from the one that stands. Raises InvalidInputError: both do not go together.
        image: The reference as the customer wrote it; None leaves the image as it is.
        registry_authentication: As in `NewGroup`; used when the image is pulled, and gone otherwise.
        pull: Whether to pull even the image that stands, as its registry has it now.
    """

    amend: Callable[[Spec], Spec]
    image: str | None = None
    registry_authentication: Mapping[str, Any] | None = field(default=None, repr=False)
    pull: bool = False


@dataclass(frozen=True, slots=True)
class GroupView:
    """A container group as its owner sees it.

    Attributes:
        description: The sentence beside the status: an import's progress while there is one.
        progress: Of an import that is running, as far as is known.
        counts: Its instances by state.
    """

    group: Group
    description: str
    progress: Progress | None = None
    counts: Mapping[InstanceState, int] = field(default_factory=dict)

    @property
    def etag(self) -> str:
        """Name what the owner has asked for; status and progress do not change it."""
        return f'"{self.group.id}-{self.group.revision}"'


@dataclass(frozen=True, slots=True)
class GroupPage:
    """Some of a project's groups, oldest first.

    Attributes:
        next_after: What to ask for to go on; None at the end.
    """

    views: Sequence[GroupView]
    next_after: str | None = None


@dataclass(frozen=True, slots=True)
class InstanceView:
    """An instance as its owner sees it.

    Attributes:
        progress: How much of the image its node has, 0 to 100; None unless it is downloading.
    """

    instance: Instance
    progress: float | None = None
