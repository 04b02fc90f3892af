"""Container groups: their names, values and every transition of their life, and the catalog that keeps them.

    pending ──> stopped <──start, stop──> deploying ──> running
      ^ │  └──────────(started)──────────────^             │
      │ └──> failed                                        │
      └──────────────── a new image ───────────────────────┘

A transition is decided here and nowhere else. The catalog reads the group, asks it, and stores the answer:
the group after the transition together with its event.
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
        is_damaged: Whether a stored blob of its image does not verify.
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
        """The sentence beside the status for its owner."""
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
        """Make a group whose image is still to be imported."""
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
        """Change the spec; an image is imported under the next version, whatever the group's state."""
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
        """Have the group run, at once or when its import ends; None if its owner wants that already.

        Raises:
            InvalidInputError: Its import failed; there is nothing to start.
        """
        if self.status is GroupStatus.FAILED:
            raise InvalidInputError("The group's import failed: change its image first, then start it.")
        return self._switch(GroupStatus.DEPLOYING, RegistryEventType.GROUP_STARTED, now, source)

    def stop(self, *, now: datetime, source: str | None = None) -> "GroupTransition | None":
        """Have the group stop; a running import goes on. None if its owner wants that already."""
        return self._switch(GroupStatus.STOPPED, RegistryEventType.GROUP_STOPPED, now, source)

    def finish_import(self, image: StoredImage, *, now: datetime) -> "GroupTransition | None":
        """Take the imported image; None if the group waits for none."""
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
        """Note that the import ended without an image; None if the group waits for none."""
        if self.status is not GroupStatus.PENDING:
            return None
        failed = _enter(self, GroupStatus.FAILED, now, f"{reason}: {sentence}")
        facts = {"version": self.version, "sentence": sentence}
        return GroupTransition(failed, failed.event(RegistryEventType.GROUP_FAILED, facts, cause=reason))

    def run(self, version: int, *, now: datetime) -> "GroupTransition | None":
        """Note that a node has the image of a version; None unless it is the first that the group waits for.

        The group stays `running` when its last instance is gone: only its owner stops it.
        """
        if self.status is not GroupStatus.DEPLOYING or version != self.version:
            return None
        running = _enter(self, GroupStatus.RUNNING, now)
        return GroupTransition(running, running.event(RegistryEventType.GROUP_RUNNING, {"version": version}))

    def delete(self, *, source: str | None = None) -> AuditEvent:
        """End the group's life, in whatever state; its event is what is left."""
        return self.event(RegistryEventType.GROUP_DELETED, source=source)

    def event(
        self,
        type_: EventType,
        facts: Mapping[str, object] = MappingProxyType({}),
        *,
        cause: str | None = None,
        source: str | None = None,
    ) -> AuditEvent:
        """Make an event of this group."""
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
    """Container groups and the images of their versions."""

    async def create(self, created: GroupTransition, credential_key: bytes | None) -> None:
        """Insert a group, its import job and its event in one transaction.

        Raises:
            ConflictError: The name is taken.
        """

    async def get(self, key: GroupKey) -> Group | None:
        """Return a group by name."""

    async def change(
        self, before: Group, changed: GroupTransition, credential_key: bytes | None = None
    ) -> bool:
        """Write a group's change with its event, and queue its new import if `job_id` names another.

        An import that still runs for the group ends with it. Returns False if the group is no longer as it
        was `before`: nothing was written.
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

    async def delete(self, key: GroupKey, *, source: str | None = None) -> Group | None:
        """Remove a group with its job and versions, and write its event; return what was removed."""

    async def image(self, group_id: str, version: int) -> StoredImage | None:
        """Return the image of a version once it is stored."""

    async def image_by_digest(self, repository: str, digest: str) -> StoredImage | None:
        """Return a repository's image, or the variant of one, by the digest that its tokens name."""

    async def version_digests(self, repository: str, version: int) -> Sequence[Digest]:
        """Return the digests of a stored version's image and of its variant; none when there is no such."""

    async def tags(self, repository: str) -> Sequence[str]:
        """Return `latest` and `v<version>` of every stored version, sorted as bytes."""
