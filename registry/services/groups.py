"""The use-cases of container groups (the rules for state transitions are in `registry.model.groups`)."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, Protocol

from auth.ports import Clock
from registry.catalog.organizations import SqlOrganizationDirectory
from registry.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    PreconditionFailedError,
    ReferenceFormatError,
)
from registry.model.groups import Group, GroupCatalog, GroupKey, GroupStatus, GroupTransition
from registry.model.imports import CredentialVault, ProgressStore, UpstreamCredential
from registry.model.instances import InstanceState
from registry.model.versions import StoredVersion
from registry.services.import_credentials import ImportCredentials
from registry.services.paging import Position
from registry.services.quotas import OrganizationQuotas
from registry.services.views import GroupChange, GroupPage, GroupView, NewGroup

MAX_PAGE: Final = 100
MAX_PAGE_BYTES: Final = 256 << 10  # 100 groups of an ordinary size; it takes 5 ms of the event loop
"""Maximum size of the specs of a page: it bounds the memory that a client holds which does not read."""

_TRIES: Final = 8
_UP: Final = (GroupStatus.DEPLOYING, GroupStatus.RUNNING)


class GroupInstances(Protocol):
    """The nodes that are designated for groups (`registry.services.instances.Instances`)."""

    async def refresh(self, group: Group) -> bool:
        """Refresh the states of a group's instances. Returns True if the group itself may have changed."""

    async def counts(self, group_ids: Sequence[str]) -> Mapping[str, Mapping[InstanceState, int]]:
        """Count the instances of groups by state."""

    async def dismiss(self, group: Group) -> None:
        """Release all nodes of a group and revoke their tokens."""


class ContainerGroups:
    """Creates, reads, changes, starts, stops and deletes container groups.

    Args:
        instances: The groups' instances.
        quotas: Quotas of the groups' organizations.
        parse_reference: Parses an image reference; references to the same image compare equal. Raises
            ReferenceFormatError.
        credential_from: As for `ImportCredentials`.
        revoke_tokens: Revokes every pull token of a group id and blocks new ones for a while.
        nudge: Wakes idle import workers; without it they find the job at their next poll.
    """

    def __init__(
        self,
        *,
        catalog: GroupCatalog,
        vault: CredentialVault,
        progress_store: ProgressStore,
        organizations: SqlOrganizationDirectory,
        instances: GroupInstances,
        quotas: OrganizationQuotas,
        clock: Clock,
        parse_reference: Callable[[str], object],
        credential_from: Callable[[Mapping[str, Any]], UpstreamCredential | None],
        revoke_tokens: Callable[[str], Awaitable[object]],
        nudge: Callable[[], None],
    ) -> None:
        self._catalog = catalog
        self._credentials = ImportCredentials(vault, credential_from)
        self._progress_store = progress_store
        self._organizations = organizations
        self._instances = instances
        self._quotas = quotas
        self._clock = clock
        self._parse_reference = parse_reference
        self._revoke_tokens = revoke_tokens
        self._nudge = nudge

    async def create(self, key: GroupKey, request: NewGroup, *, source: str | None = None) -> GroupView:
        """Create a group and queue the import of its image. Does not contact the upstream registry.

        The request is idempotent: it returns the existing group if that matches the request. If its import
        has failed, a new import starts with the credentials of this request.

        Args:
            source: The caller's network address, for the audit trail.

        Raises:
            InvalidInputError: The image reference or the registry credentials are invalid.
            NotFoundError: There is no such organization.
            ConflictError: The project has a different group of that name.
            QuotaExceededError: The group would take the organization over a quota.
            RateLimitedError: The organization creates too many groups per minute.
        """
        self._read_reference(request.image)
        await self._require_organization(key.organization)
        credential = self._credentials.read(request.registry_authentication)
        if (existing := await self._repeat(key, request, credential, source)) is not None:
            return existing
        await self._quotas.check_spec(key.organization, request.spec)
        await self._quotas.take(key.organization, "creations_per_minute", "create")
        now, autostart = self._clock.now(), request.autostart
        created = Group.create(key, request.image, request.spec, autostart=autostart, now=now, source=source)
        group = created.group
        try:
            async with self._credentials.stored(group.job_id, credential) as credential_key:
                await self._catalog.create(created, credential_key)
        except ConflictError:
            if (existing := await self._repeat(key, request, credential, source)) is not None:
                return existing
            raise
        self._nudge()
        return GroupView(group, group.description)

    async def get(self, key: GroupKey) -> GroupView:
        """Return a group. Raises NotFoundError."""
        group = await self._require(key)
        if group.status in _UP and await self._instances.refresh(group):
            group = await self._require(key)
        return (await self._views([group]))[0]

    async def list(
        self, organization: str, project: str, *, after: str | None = None, limit: int = MAX_PAGE
    ) -> GroupPage:
        """Return a project's groups, oldest first.

        Args:
            after: The `next_after` of the previous page.
            limit: Maximum number of groups, up to `MAX_PAGE`.

        Raises:
            NotFoundError: There is no such organization.
            InvalidInputError: `after` is not a valid cursor.
        """
        await self._require_organization(organization)
        position = Position.parse(after) if after is not None else None
        found, more = await self._catalog.page(
            organization, project, after=position, limit=limit, max_spec_bytes=MAX_PAGE_BYTES
        )
        views = await self._views(found)
        last = views[-1].group if views and more else None
        return GroupPage(views, str(Position(last.created_at, last.id)) if last else None)

    async def update(
        self,
        key: GroupKey,
        change: GroupChange,
        *,
        if_match: Collection[str] | None = None,
        source: str | None = None,
    ) -> GroupView:
        """Change a group. A changed image is imported as the next version.

        Nodes receive the previous version until the import is complete. New credentials always cause an
        import. Without them, the same image is pulled again only if `change.pull` is set or its import has
        failed.

        Args:
            if_match: Accepted values of the group's `GroupView.etag`; None accepts any.
            source: The caller's network address, for the audit trail.

        Raises:
            InvalidInputError: The image, the credentials or the changed spec are invalid.
            NotFoundError: There is no such group.
            PreconditionFailedError: The group has changed since it was read.
            ConflictError: Concurrent changes prevented this one.
            QuotaExceededError: The change would take the organization over a quota.
        """
        if change.image is not None:
            self._read_reference(change.image)
        credential = self._credentials.read(change.registry_authentication)
        for _ in range(_TRIES):
            before = await self._require(key)
            _check(before, if_match)
            pulls = credential is not None or self._pulls(before, change)
            image = (change.image or before.image) if pulls else None
            spec = change.amend(before.spec)
            if spec != before.spec:
                await self._quotas.check_spec(key.organization, spec)
            changed = before.update(spec, image, now=self._clock.now(), source=source)
            if await self._write(before, changed, credential):
                return await self.get(key)
        raise ConflictError("other requests are changing the group; read it again, then retry")

    async def roll_back(
        self, key: GroupKey, version: int | None = None, *, source: str | None = None
    ) -> GroupView:
        """Roll a group back to an earlier stored version, which becomes its next version without an import.

        Args:
            version: None selects the newest stored version other than the current one.

        Raises:
            InvalidInputError: The version is not stored.
            NotFoundError: There is no such group.
            ConflictError: Concurrent changes prevented this one.
        """
        for _ in range(_TRIES):
            before = await self._require(key)
            target = await self._stored(before, version)
            changed = before.roll_back(target, now=self._clock.now(), source=source)
            if changed is None or await self._catalog.change(before, changed):
                await self._credentials.forget(before.job_id)
                return await self.get(key)
        raise ConflictError("other requests are changing the group; try again")

    async def start(self, key: GroupKey, *, source: str | None = None) -> None:
        """Start a group: immediately if its image is stored, otherwise when its import ends.

        Raises:
            NotFoundError: There is no such group.
            InvalidInputError: Its import failed, so it has no image.
        """
        await self._change(key, lambda group: group.start(now=self._clock.now(), source=source))

    async def stop(self, key: GroupKey, *, source: str | None = None) -> None:
        """Stop a group: release its nodes and revoke their tokens. A running import continues.

        Raises:
            NotFoundError: There is no such group.
        """
        stopped = await self._change(key, lambda group: group.stop(now=self._clock.now(), source=source))
        await self._instances.dismiss(stopped)

    async def delete(self, key: GroupKey, *, source: str | None = None) -> None:
        """Delete a group, stop its import and revoke its pull tokens. Collection removes its blobs later.

        Tokens are revoked before and after the deletion. Before, so that a crash in between leaves a group
        that nodes cannot pull and that can be deleted again. After, to cover a token that was minted in
        between, or a group that was created under the same name in between.

        Raises:
            NotFoundError: There is no such group.
        """
        group = await self._require(key, with_spec=False)
        await self._revoke_tokens(group.id)
        removed = await self._catalog.delete(key, source=source)
        if removed is None:
            raise _no_such(key)
        await self._revoke_tokens(removed.id)
        await self._credentials.forget(removed.job_id)

    def _read_reference(self, image: str) -> object:
        try:
            return self._parse_reference(image)
        except ReferenceFormatError as error:
            raise InvalidInputError(
                "The image reference cannot be read.", {"container.image": [str(error)]}
            ) from None

    async def _repeat(
        self, key: GroupKey, request: NewGroup, credential: UpstreamCredential | None, source: str | None
    ) -> GroupView | None:
        """Return the existing group if it matches the request, restarting its import if that failed."""
        asked = (request.image, request.autostart, request.spec)
        for _ in range(_TRIES):
            group = await self._catalog.get(key)
            if group is None or (group.image, group.autostart, group.spec) != asked:
                return None
            if not group.has_failed:
                return (await self._views([group]))[0]
            retried = group.update(group.spec, group.image, now=self._clock.now(), source=source)
            if await self._write(group, retried, credential):
                return await self.get(key)
        raise ConflictError("other requests are changing the group; try again")

    async def _stored(self, group: Group, version: int | None) -> StoredVersion:
        stored = await self._catalog.versions(group.id)
        others = [number for number in stored if number != group.version]
        chosen = version if version is not None else next(iter(others), None)
        target = await self._catalog.version(group.id, chosen) if chosen is not None else None
        if target is None:
            reason = f"choose a stored version: {', '.join(map(str, others[:20]))}"
            raise InvalidInputError(
                "The group has no such version.",
                {"version": [reason if others else "no other version of the group is stored"]},
            )
        return target

    def _pulls(self, before: Group, change: GroupChange) -> bool:
        if change.pull:
            return True
        if change.image is None:
            return False
        same = self._parse_reference(change.image) == self._parse_reference(before.image)
        return not same or before.has_failed

    async def _write(
        self, before: Group, changed: GroupTransition, credential: UpstreamCredential | None
    ) -> bool:
        after = changed.group
        if after.job_id == before.job_id:
            return await self._catalog.change(before, changed)
        async with self._credentials.stored(after.job_id, credential) as credential_key:
            written = await self._catalog.change(before, changed, credential_key)
        if written:
            await self._credentials.forget(before.job_id)
            self._nudge()
        elif credential is not None:
            await self._credentials.forget(after.job_id)
        return written

    async def _change(self, key: GroupKey, transition: Callable[[Group], GroupTransition | None]) -> Group:
        """Store the group's transition, if there is one. Returns the resulting group."""
        for _ in range(_TRIES):
            group = await self._require(key, with_spec=False)
            changed = transition(group)
            if changed is None:
                return group
            if await self._catalog.change(group, changed):
                return changed.group
        raise ConflictError("other requests are changing the group; try again")

    async def _views(self, groups: Sequence[Group]) -> Sequence[GroupView]:
        importing = [group.job_id for group in groups if group.status is GroupStatus.PENDING]
        progress = await self._progress_store.get(importing) if importing else {}
        counts = await self._instances.counts([group.id for group in groups]) if groups else {}
        return [
            GroupView(
                group,
                str(progress.get(group.job_id, group.description)),
                progress.get(group.job_id),
                counts.get(group.id, {}),
            )
            for group in groups
        ]

    async def _require(self, key: GroupKey, *, with_spec: bool = True) -> Group:
        group = await self._catalog.get(key, with_spec=with_spec)
        if group is None:
            raise _no_such(key)
        return group

    async def _require_organization(self, name: str) -> None:
        if await self._organizations.get(name) is None:
            raise NotFoundError(
                f"There is no organization named {name!r}. Check the name, or ask your operator to create it."
            )


def _check(group: Group, if_match: Collection[str] | None) -> None:
    if if_match is not None and GroupView(group, "").etag not in if_match:
        raise PreconditionFailedError("The group has changed since it was read; read it again.")


def _no_such(key: GroupKey) -> NotFoundError:
    return NotFoundError(f"There is no container group named {key.name!r} in project {key.project!r}.")
