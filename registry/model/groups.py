"""Container groups: their names, states and values, and the catalog that keeps them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from auth.ports import AuditEvent
from registry.audit.trail import NO_FACTS
from registry.model.images import StoredImage
from storage.digest import Digest


@dataclass(frozen=True, slots=True, order=True)
class GroupKey:
    """A container group's name within its project and organization."""

    organization: str
    project: str
    name: str

    @property
    def repository(self) -> str:
        """The repository that nodes pull the group's image from."""
        return f"{self.organization}/{self.project}/{self.name}"


class GroupStatus(StrEnum):
    """The states of SaladCloud's public API that Crisper brings about."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    DEPLOYING = "deploying"


@dataclass(frozen=True, slots=True)
class Group:
    """A container group as the catalog knows it.

    Attributes:
        image: The reference as the customer wrote it.
        spec: The request's other fields, stored and returned unchanged; never credentials.
        version: Raised by each new image, from 1.
        status_description: The sentence beside the status; names the stage or the failure.
        image_digest: Digest of the document that `image` named at creation; None until stored.
        image_size_bytes: Compressed size of the image's platform; None until stored.
        job_id: The newest import.
        started: Whether its owner wants it to run: what it does once its image is there.
        revision: Raised by each change that its owner makes.
    """

    id: str
    key: GroupKey
    image: str
    spec: Mapping[str, Any]
    version: int
    autostart: bool
    status: GroupStatus
    status_description: str
    status_since: datetime
    created_at: datetime
    updated_at: datetime
    job_id: str
    started: bool = False
    revision: int = 1
    image_digest: Digest | None = None
    image_size_bytes: int | None = None


def group_event(
    type_: str,
    group_id: str,
    key: GroupKey,
    facts: Mapping[str, object] = NO_FACTS,
    *,
    cause: str | None = None,
    source: str | None = None,
) -> AuditEvent:
    """Tell about a container group."""
    detail = {"group_id": group_id, "project": key.project, "group": key.name, **facts}
    return AuditEvent(type_, key.organization, cause=cause, source=source, detail=detail)


class GroupCatalog(Protocol):
    """Container groups and the images of their versions."""

    async def create(self, group: Group, credential_key: bytes | None) -> None:
        """Insert a group and its import job in one transaction. Raises ConflictError: the name is taken."""

    async def get(self, key: GroupKey) -> Group | None:
        """Return a group by name."""

    async def change(self, before: Group, after: Group, credential_key: bytes | None) -> bool:
        """Write a group's change, and queue the import that `after.job_id` names if it is a new one.

        An import that still runs for the group ends with it. False when the group is no longer as it was
        `before`: nothing was written.
        """

    async def newest_version(self, group_id: str) -> int | None:
        """Return the newest version whose image is stored."""

    async def list(
        self,
        organization: str,
        project: str | None = None,
        *,
        after: tuple[datetime, str] | None = None,
        limit: int | None = None,
    ) -> Sequence[Group]:
        """Return an organization's groups, oldest first, from behind the one created `(at, with this id)`."""

    async def delete(self, key: GroupKey) -> Group | None:
        """Remove a group with its job and versions; return what was removed."""

    async def image(self, group_id: str, version: int) -> StoredImage | None:
        """Return the image of a version once it is stored."""

    async def image_by_digest(self, repository: str, digest: str) -> StoredImage | None:
        """Return a repository's image, or the variant of one, by the digest that its tokens name."""

    async def version_digests(self, repository: str, version: int) -> Sequence[Digest]:
        """Return the digests of a stored version's image and of its variant; none when there is no such."""

    async def tags(self, repository: str) -> Sequence[str]:
        """Return `latest` and `v<version>` of every stored version, sorted as bytes."""
