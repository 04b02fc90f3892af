"""Container groups: names, states and values, and the port to the catalog."""

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
    """Name of a container group within its project and organization."""

    organization: str
    project: str
    name: str

    @property
    def repository(self) -> str:
        """Repository from which nodes pull the group's image."""
        return f"{self.organization}/{self.project}/{self.name}"


class GroupStatus(StrEnum):
    """States of a group: those of SaladCloud's public API that Crisper uses."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    DEPLOYING = "deploying"


@dataclass(frozen=True, slots=True)
class Group:
    """A container group as stored in the catalog.

    Attributes:
        image: Image reference as the customer wrote it.
        spec: Other fields of the request, stored and returned unchanged; never credentials.
        version: Number of the image version, from 1; increases with each new image.
        status_description: Text beside the status that names the stage or the failure.
        image_digest: Digest to which `image` resolved at import; None until the image is stored.
        image_size_bytes: Compressed size for the imported platform; None until the image is stored.
        job_id: Id of the newest import.
        started: Desired state: whether the group runs once its image is stored.
        revision: Number of the owner's changes; ETags contain it.
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
    """Return an audit event about a container group."""
    detail = {"group_id": group_id, "project": key.project, "group": key.name, **facts}
    return AuditEvent(type_, key.organization, cause=cause, source=source, detail=detail)


class GroupCatalog(Protocol):
    """Store of container groups and of the images of their versions."""

    async def create(self, group: Group, credential_key: bytes | None) -> None:
        """Insert a group with its import job in one transaction. Raises ConflictError: the name is taken."""

    async def get(self, key: GroupKey) -> Group | None:
        """Return a group, or None."""

    async def change(self, before: Group, after: Group, credential_key: bytes | None) -> bool:
        """Store a changed group, and queue the import `after.job_id` if it is new.

        A new import replaces one that is still running for the group. Returns False, without writing, if the
        stored group differs from `before`.
        """

    async def newest_version(self, group_id: str) -> int | None:
        """Return the newest version whose image is stored, or None."""

    async def list(
        self,
        organization: str,
        project: str | None = None,
        *,
        after: tuple[datetime, str] | None = None,
        limit: int | None = None,
    ) -> Sequence[Group]:
        """Return an organization's groups, oldest first, after the cursor `(created_at, id)`."""

    async def delete(self, key: GroupKey) -> Group | None:
        """Remove a group with its job and versions. Returns the removed group, or None."""

    async def image(self, group_id: str, version: int) -> StoredImage | None:
        """Return the image of a version, or None if it is not stored."""

    async def image_by_digest(self, repository: str, digest: str) -> StoredImage | None:
        """Return the image or variant of a repository that has the digest in a token's `img` claim."""

    async def version_digests(self, repository: str, version: int) -> Sequence[Digest]:
        """Return the digests of a stored version's image and of its variant; empty if there is none."""

    async def tags(self, repository: str) -> Sequence[str]:
        """Return the tags `latest` and `v<version>` of all stored versions, sorted by bytes."""
