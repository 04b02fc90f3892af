"""Container groups: values, the state machine, and the port to the catalog.

    pending ──> stopped <──start, stop──> deploying ──> running
      ^ │  └──────────(started)──────────────^             │
      │ └──> failed                                        │
      └──────────────── a new image ───────────────────────┘

All transitions are decided here. The catalog reads a group, calls a transition, and stores the result: the
changed group together with its event.

A group is `failed` only while no version of it is stored. If the import of a later version fails, the group
returns to the status that it had (`resume_status`), and its nodes get the version before.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from registry.model.versions import StoredVersion, changed_fields, same_configuration, with_configuration
from storage.digest import Digest

_PULLING: Final = "pulling"  # until the import reports its progress (`registry.model.imports.Stage`)
_INT32_MAX: Final = (1 << 31) - 1
_DAMAGED: Final = "damaged: a stored blob does not verify; create the group again to import its image"


def size_bytes_of(spec: Mapping[str, Any]) -> int:
    """Return the size of a spec as compact JSON in UTF-8."""
    return len(json.dumps(spec, ensure_ascii=False, separators=(",", ":")).encode())


class _UnreadSpec(Mapping[str, Any]):
    """A spec that was not read. Any use of it is a mistake."""

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 (as in the base class)
        raise RuntimeError("the group was read without its spec")

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("the group was read without its spec")

    def __len__(self) -> int:
        raise RuntimeError("the group was read without its spec")


Cursor = tuple[datetime, str]
"""A position in a list of groups: creation time and id of the group before it."""

UNREAD: Final[Mapping[str, Any]] = _UnreadSpec()
"""The spec of groups that were read without it."""


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
        spec: Other fields of the request, stored encrypted and returned unchanged. They may contain the
            customer's secrets, but never credentials. `UNREAD` if it was not read.
        version: From 1; increases with each change of the image or of what `registry.model.versions` counts.
        status_description: Text beside the status that names the stage or the failure.
        served_version: The newest version whose image is stored, which nodes get; None until one is stored.
        image_digest: Digest to which the served version's image resolved at import.
        image_size_bytes: Compressed size of the served version's image, for the imported platform.
        resume_status: During an import, the status to return to if it fails; None if no version is stored.
        job_id: Id of the newest import.
        started: Desired state: whether the group runs once its image is stored.
        revision: Number of the owner's changes, from 1.
        is_damaged: Whether a stored blob of its image is damaged.
        has_outdated_instances: Whether an instance does not run `version` yet.
        image_platform: Platforms of the served version's image, separated by commas.
        missing_platforms: Platforms that were wanted, but that the served version's image does not have.
    """

    id: str
    key: GroupKey
    image: str
    spec: Mapping[str, Any] = field(repr=False)
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
    resume_status: GroupStatus | None = None
    served_version: int | None = None
    image_digest: Digest | None = None
    image_size_bytes: int | None = None
    is_damaged: bool = False
    has_outdated_instances: bool = False
    image_platform: str | None = None
    missing_platforms: tuple[str, ...] = ()

    @property
    def replicas(self) -> int:
        """Replicas that count for the quota: with autoscaling, the maximum."""
        scaler = self.spec.get("queue_autoscaler") or {}
        replicas: int = max(self.spec.get("replicas", 0), scaler.get("max_replicas", 0))
        return min(replicas, _INT32_MAX)

    @property
    def image_caching(self) -> bool:
        """Whether its images stay stored for a while after they were used last."""
        return bool(self.spec.get("container", {}).get("image_caching"))

    def has_probe(self, kind: str) -> bool:
        """Return whether the group has a probe: `startup`, `readiness` or `liveness`."""
        return self.spec.get(f"{kind}_probe") is not None

    @property
    def spec_bytes(self) -> int:
        """Size of the spec as JSON."""
        return size_bytes_of(self.spec)

    @property
    def has_failed(self) -> bool:
        """Whether the image of its version is not stored, and no import of it runs."""
        return self.status is not GroupStatus.PENDING and self.served_version != self.version

    @property
    def pending_change(self) -> bool:
        """Whether a change is not yet applied: its image is not stored, or an instance does not run it."""
        unapplied = self.served_version != self.version or self.has_outdated_instances
        return self.version > 1 and unapplied

    @property
    def description(self) -> str:
        """Text beside the status, for the owner."""
        if self.has_failed and self.served_version is not None:
            reason, _, sentence = self.status_description.partition(": ")
            failed = reason if reason.startswith("failed") else f"failed: {reason}"
            served = f"version {self.served_version} is served"
            return f"version {self.version} {failed}; {served}. Reason: {sentence}"
        if self.is_damaged:
            return _DAMAGED
        if self.status_description or not self.missing_platforms:
            return self.status_description
        missing = ", ".join(self.missing_platforms)
        imported = (self.image_platform or "").replace(",", ", ")
        return f"imported for {imported}; the image has no {missing}"

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
        """Change the spec, and import an image if one is given, in any state.

        A change that the version counts makes the next version. Without an import it has the image of the
        version before. An import of the same image is a new version only if this one has an image already.
        """
        stored = self.served_version == self.version
        renewed = not same_configuration(self.spec, spec)
        if image is not None:
            renewed = renewed or stored or image != self.image
        version = self.version + renewed
        changed = replace(self, spec=spec, version=version, revision=self.revision + 1, updated_at=now)
        facts: dict[str, object] = {"version": version}
        image_of = self.served_version if renewed and stored and image is None else None
        if image_of is not None:
            changed = replace(changed, served_version=version)
        if image is not None:
            resume_status = self._served_status if self.served_version is not None else None
            imported = {"image": image, "job_id": str(uuid4()), "resume_status": resume_status}
            changed = _enter(changed, GroupStatus.PENDING, now, _PULLING, **imported)
            facts["image"] = image
        if fields := changed_fields(self.spec, spec):
            facts["changed"] = fields
        event = changed.event(RegistryEventType.GROUP_UPDATED, facts, source=source)
        return GroupTransition(changed, event, image_of)

    def roll_back(
        self, target: StoredVersion, *, now: datetime, source: str | None = None
    ) -> "GroupTransition | None":
        """Make the next version from an earlier one that is stored. Cancels a running import.

        Returns None if the group is as it was in that version.
        """
        configuration = target.configuration
        spec = self.spec if configuration is None else with_configuration(self.spec, configuration)
        same_image = target.digest == self.image_digest
        if same_image and (self.served_version, self.image, self.spec) == (self.version, target.image, spec):
            return None
        status = self._served_status if same_image else self._idle_status
        version = self.version + 1
        changed = _enter(
            self,
            status,
            now,
            status_since=self.status_since if status is self.status else now,
            image=target.image,
            spec=spec,
            version=version,
            revision=self.revision + 1,
            served_version=version,
            image_digest=target.digest,
            image_size_bytes=target.size_bytes,
            image_platform=target.platform,
            missing_platforms=target.missing_platforms,
            resume_status=None,
        )
        facts = {"version": version, "image": target.image, "from_version": target.version}
        event = changed.event(RegistryEventType.GROUP_ROLLED_BACK, facts, source=source)
        return GroupTransition(changed, event, target.version)

    def start(self, *, now: datetime, source: str | None = None) -> "GroupTransition | None":
        """Set the desired state to running. Returns None if it is already set.

        The group starts at once, or when its import ends.

        Raises:
            InvalidInputError: The group's import failed.
        """
        if self.status is GroupStatus.FAILED:
            raise InvalidInputError(
                "The group's import failed: send its credentials again or change its image, then start it."
            )
        return self._switch(GroupStatus.DEPLOYING, RegistryEventType.GROUP_STARTED, now, source)

    def stop(self, *, now: datetime, source: str | None = None) -> "GroupTransition | None":
        """Set the desired state to stopped. Returns None if it is already set. A running import continues."""
        return self._switch(GroupStatus.STOPPED, RegistryEventType.GROUP_STOPPED, now, source)

    def finish_import(
        self, image: StoredImage, *, now: datetime, report: Mapping[str, object] = MappingProxyType({})
    ) -> "GroupTransition | None":
        """Record the imported image. Returns None if the group is not waiting for an image.

        Args:
            report: Facts of `registry.model.imports.ImportReport`.
        """
        if self.status is not GroupStatus.PENDING:
            return None
        size_bytes = image.size_bytes
        stored = _enter(
            self,
            self._served_status if image.digest == self.image_digest else self._idle_status,
            now,
            served_version=self.version,
            image_digest=image.digest,
            image_size_bytes=size_bytes,
            image_platform=image.platform,
            missing_platforms=image.missing_platforms,
            resume_status=None,
        )
        facts: dict[str, object] = {
            "version": self.version,
            "digest": str(image.digest),
            "size": size_bytes,
            "platforms": image.platform.split(","),
        }
        if image.verdict is not None:
            facts |= {"trusted": image.verdict.trusted, "sentence": image.verdict.sentence}
        if image.zstd is not None:
            facts["zstd"] = {"digest": str(image.zstd.digest), "size": image.zstd.size_bytes}
        if report:
            facts["import"] = dict(report)
        return GroupTransition(stored, stored.event(RegistryEventType.GROUP_IMPORTED, facts))

    def fail_import(
        self,
        reason: str,
        sentence: str,
        *,
        now: datetime,
        report: Mapping[str, object] = MappingProxyType({}),
    ) -> "GroupTransition | None":
        """Record a failed import. Returns None if the group is not waiting for an image.

        If an earlier version is stored, the group continues with that one.

        Args:
            report: As in `finish_import`.
        """
        if self.status is not GroupStatus.PENDING:
            return None
        status = GroupStatus.FAILED if self.served_version is None else self._served_status
        failed = _enter(self, status, now, f"{reason}: {sentence}", resume_status=None)
        facts: dict[str, object] = {"version": self.version, "sentence": sentence}
        if self.served_version is not None:
            facts["served_version"] = self.served_version
        if report:
            facts["import"] = dict(report)
        return GroupTransition(failed, failed.event(RegistryEventType.GROUP_FAILED, facts, cause=reason))

    def run(self, version: int, *, now: datetime) -> "GroupTransition | None":
        """Record that a node has the image of a version. Returns None unless this makes the group running.

        The group stays `running` after its last instance is gone. Only its owner can stop it.
        """
        pending = self.status is GroupStatus.PENDING
        served_status = self.resume_status if pending else self.status
        if served_status is not GroupStatus.DEPLOYING or version != self.served_version:
            return None
        if pending:
            running = replace(self, resume_status=GroupStatus.RUNNING, updated_at=now)
        else:
            running = _enter(self, GroupStatus.RUNNING, now, self._failure)
        return GroupTransition(running, running.event(RegistryEventType.GROUP_RUNNING, {"version": version}))

    def deploy_again(self, *, now: datetime) -> "GroupTransition | None":
        """Record that the node that made the group running still pulls. Returns None unless it is running."""
        if self.status is not GroupStatus.RUNNING:
            return None
        deploying = _enter(self, GroupStatus.DEPLOYING, now, self._failure)
        return GroupTransition(deploying, deploying.event(RegistryEventType.GROUP_DEPLOYING))

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
            switched = _enter(switched, status, now, self._failure)
        elif self.resume_status is not None:
            switched = replace(switched, resume_status=status)
        return GroupTransition(switched, switched.event(type_, {"version": self.version}, source=source))

    @property
    def _served_status(self) -> GroupStatus:
        """Status of the version that is served."""
        if self.status is not GroupStatus.PENDING:
            return self.status
        return self.resume_status or self._idle_status

    @property
    def _idle_status(self) -> GroupStatus:
        """Status while no node has the image yet."""
        return GroupStatus.DEPLOYING if self.started else GroupStatus.STOPPED

    @property
    def _failure(self) -> str:
        """Description of the failed import of its version, which the next status keeps."""
        return self.status_description if self.has_failed else ""


class GroupTransition(NamedTuple):
    """A group after a change, and the event that is stored with it.

    Attributes:
        image_of: The stored version whose image the group's new version has; None if it has none yet, or
            if there is no new version.
    """

    group: Group
    event: AuditEvent
    image_of: int | None = None


def _enter(group: Group, status: GroupStatus, now: datetime, description: str = "", **changes: Any) -> Group:  # noqa: ANN401 (fields of a group)
    entered: dict[str, Any] = {
        "status": status,
        "status_description": description,
        "status_since": now,
        "updated_at": now,
    }
    return replace(group, **(entered | changes))


class GroupCatalog(Protocol):
    """Store of container groups and of the images of their versions."""

    async def create(self, created: GroupTransition, credential_key: bytes | None) -> None:
        """Insert a group, its import job and its event in one transaction.

        Raises:
            ConflictError: The name is taken.
        """

    async def get(self, key: GroupKey, *, with_spec: bool = True) -> Group | None:
        """Return a group, or None. Without the spec, no key is needed."""

    async def change(
        self, before: Group, changed: GroupTransition, credential_key: bytes | None = None
    ) -> bool:
        """Store a changed group with its event, and queue the import `job_id` if it is new.

        An import that the group no longer waits for ends with it. Returns False if the group is no longer as
        it was `before`, or the version `image_of` is no longer stored: nothing was written.
        """

    async def versions(self, group_id: str) -> Sequence[int]:
        """Return the numbers of the stored versions, the newest first."""

    async def version(self, group_id: str, version: int) -> StoredVersion | None:
        """Return a stored version."""

    async def page(
        self, organization: str, project: str, *, after: Cursor | None = None, limit: int, max_spec_bytes: int
    ) -> tuple[Sequence[Group], bool]:
        """Return a project's groups, oldest first, after the cursor.

        Args:
            limit: Maximum number of groups.
            max_spec_bytes: Maximum size of their specs together. The first group is returned in any case.

        Returns:
            The groups, and whether there are more.
        """

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
