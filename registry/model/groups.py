"""Container groups: values, the state machine, and the port to the catalog.

    pending ──> stopped <──start, stop──> deploying ──> running
      ^ │  └──────────(started)──────────────^             │
      │ └──> failed                                        │
      └──────────────── a new image ───────────────────────┘

All transitions are decided here. The catalog reads a group, calls a transition, and stores the result: the
changed group together with its event.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol
from uuid import uuid4

from auth.audit import EventType
from auth.ports import AuditEvent
from registry.audit.types import RegistryEventType
from registry.errors import InvalidInputError
from registry.model.images import StoredImage
from storage.digest import Digest

_PULLING: Final = "pulling"  # until the import reports its progress (`registry.model.imports.Stage`)
_DAMAGED: Final = "damaged: a stored blob does not verify; create the group again to import its image"


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
        revision: Number of the owner's changes, from 1.
        is_damaged: Whether a stored blob of its image is damaged.
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
    is_damaged: bool = False

    @property
    def description(self) -> str:
        """Text beside the status, for the owner."""
        return _DAMAGED if self.is_damaged else self.status_description

    @classmethod
    def create(
        cls,
        key: GroupKey,
        image: str,
        spec: Mapping[str, Any],
        *,
        autostart: bool,
        now: datetime,
        source: str | None = None,
    ) -> "GroupTransition":
        """Create a group whose image is not imported yet."""
        group = cls(
            id=str(uuid4()),
            key=key,
            image=image,
            spec=spec,
            version=1,
            autostart=autostart,
            status=GroupStatus.PENDING,
            status_description=_PULLING,
            status_since=now,
            created_at=now,
            updated_at=now,
            job_id=str(uuid4()),
            started=autostart,
        )
        facts = {"image": image, "version": group.version}
        return GroupTransition(group, group.event(RegistryEventType.GROUP_CREATED, facts, source=source))

    def update(
        self, spec: Mapping[str, Any], image: str | None, *, now: datetime, source: str | None = None
    ) -> "GroupTransition":
        """Change the spec. An image, if given, is imported as the next version, in any state."""
        changed = replace(self, spec=spec, revision=self.revision + 1, updated_at=now)
        facts: dict[str, object] = {"version": self.version}
        if image is not None:
            changed = _enter(
                changed,
                GroupStatus.PENDING,
                now,
                _PULLING,
                image=image,
                version=self.version + 1,
                job_id=str(uuid4()),
                image_digest=None,
                image_size_bytes=None,
            )
            facts = {"version": changed.version, "image": image}
        return GroupTransition(changed, changed.event(RegistryEventType.GROUP_UPDATED, facts, source=source))

    def start(self, *, now: datetime, source: str | None = None) -> "GroupTransition | None":
        """Set the desired state to running. Returns None if it is already set.

        The group starts at once, or when its import ends.

        Raises:
            InvalidInputError: The group's import failed.
        """
        if self.status is GroupStatus.FAILED:
            raise InvalidInputError("The group's import failed: change its image first, then start it.")
        return self._switch(GroupStatus.DEPLOYING, RegistryEventType.GROUP_STARTED, now, source)

    def stop(self, *, now: datetime, source: str | None = None) -> "GroupTransition | None":
        """Set the desired state to stopped. Returns None if it is already set. A running import continues."""
        return self._switch(GroupStatus.STOPPED, RegistryEventType.GROUP_STOPPED, now, source)

    def finish_import(self, image: StoredImage, *, now: datetime) -> "GroupTransition | None":
        """Record the imported image. Returns None if the group is not waiting for an image."""
        if self.status is not GroupStatus.PENDING:
            return None
        status = GroupStatus.DEPLOYING if self.started else GroupStatus.STOPPED
        size_bytes = image.size_bytes
        stored = _enter(self, status, now, image_digest=image.digest, image_size_bytes=size_bytes)
        facts: dict[str, object] = {
            "version": self.version,
            "digest": str(image.digest),
            "size": size_bytes,
        }
        if image.zstd is not None:
            facts["zstd"] = {"digest": str(image.zstd.digest), "size": image.zstd.size_bytes}
        return GroupTransition(stored, stored.event(RegistryEventType.GROUP_IMPORTED, facts))

    def fail_import(self, reason: str, sentence: str, *, now: datetime) -> "GroupTransition | None":
        """Record a failed import. Returns None if the group is not waiting for an image."""
        if self.status is not GroupStatus.PENDING:
            return None
        failed = _enter(self, GroupStatus.FAILED, now, f"{reason}: {sentence}")
        facts = {"version": self.version, "sentence": sentence}
        return GroupTransition(failed, failed.event(RegistryEventType.GROUP_FAILED, facts, cause=reason))

    def run(self, version: int, *, now: datetime) -> "GroupTransition | None":
        """Record that a node has the image of a version. Returns None unless this makes the group running.

        The group stays `running` after its last instance is gone. Only its owner can stop it.
        """
        if self.status is not GroupStatus.DEPLOYING or version != self.version:
            return None
        running = _enter(self, GroupStatus.RUNNING, now)
        return GroupTransition(running, running.event(RegistryEventType.GROUP_RUNNING, {"version": version}))

    def delete(self, *, source: str | None = None) -> AuditEvent:
        """Return the event of the group's deletion, which is possible in any state."""
        return self.event(RegistryEventType.GROUP_DELETED, source=source)

    def event(
        self,
        type_: EventType,
        facts: Mapping[str, object] = MappingProxyType({}),
        *,
        cause: str | None = None,
        source: str | None = None,
    ) -> AuditEvent:
        """Return an event about this group."""
        detail = {"group_id": self.id, "project": self.key.project, "group": self.key.name, **facts}
        return AuditEvent(type_, self.key.organization, cause=cause, source=source, detail=detail)

    def _switch(
        self, status: GroupStatus, type_: EventType, now: datetime, source: str | None
    ) -> "GroupTransition | None":
        started = status is GroupStatus.DEPLOYING
        if self.started is started:
            return None
        switched = replace(self, started=started, revision=self.revision + 1, updated_at=now)
        if self.status not in {GroupStatus.PENDING, GroupStatus.FAILED}:
            switched = _enter(switched, status, now)
        return GroupTransition(switched, switched.event(type_, {"version": self.version}, source=source))


class GroupTransition(NamedTuple):
    """A group after a change, and the event that is stored with it."""

    group: Group
    event: AuditEvent


def _enter(group: Group, status: GroupStatus, now: datetime, description: str = "", **changes: Any) -> Group:  # noqa: ANN401 (fields of a group)
    changes |= {"status": status, "status_description": description, "status_since": now, "updated_at": now}
    return replace(group, **changes)


class GroupCatalog(Protocol):
    """Store of container groups and of the images of their versions."""

    async def create(self, created: GroupTransition, credential_key: bytes | None) -> None:
        """Insert a group, its import job and its event in one transaction.

        Raises:
            ConflictError: The name is taken.
        """

    async def get(self, key: GroupKey) -> Group | None:
        """Return a group, or None."""

    async def change(
        self, before: Group, changed: GroupTransition, credential_key: bytes | None = None
    ) -> bool:
        """Store a changed group with its event, and queue the import `job_id` if it is new.

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

    async def delete(self, key: GroupKey, *, source: str | None = None) -> Group | None:
        """Remove a group with its job and versions, and write the event. Returns the group, or None."""

    async def image(self, group_id: str, version: int) -> StoredImage | None:
        """Return the image of a version, or None if it is not stored."""

    async def image_by_digest(self, repository: str, digest: str) -> StoredImage | None:
        """Return the image or variant of a repository that has the digest in a token's `img` claim."""

    async def version_digests(self, repository: str, version: int) -> Sequence[Digest]:
        """Return the digests of a stored version's image and of its variant; empty if there is none."""

    async def tags(self, repository: str) -> Sequence[str]:
        """Return the tags `latest` and `v<version>` of all stored versions, sorted by bytes."""
