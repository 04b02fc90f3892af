"""Create, read and delete container groups; framework-free."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from auth.ports import AuditEvent, Clock
from registry.errors import InvalidInputError, NotFoundError, ReferenceFormatError
from registry.groups.values import GroupView, NewGroup
from registry.ports import (
    CredentialVault,
    EventLog,
    Group,
    GroupCatalog,
    GroupKey,
    GroupStatus,
    OrganizationDirectory,
    Progress,
    ProgressBoard,
    Stage,
    UpstreamCredential,
)


class ContainerGroups:
    """The life of container groups.

    Args:
        parse_reference: Reads an image reference. Raises ReferenceFormatError.
        credential_from: Turns the public API's `registry_authentication` into what the upstream is sent.
            Raises InvalidInputError, its paths starting at `registry_authentication`.
        revoke_tokens: Revokes every pull token of a group, by the group's id.
        nudge: Tells idle import workers that a job waits; they find it without, only later.
    """

    def __init__(
        self,
        *,
        catalog: GroupCatalog,
        vault: CredentialVault,
        board: ProgressBoard,
        organizations: OrganizationDirectory,
        events: EventLog,
        clock: Clock,
        parse_reference: Callable[[str], object],
        credential_from: Callable[[Mapping[str, Any]], UpstreamCredential | None],
        revoke_tokens: Callable[[str], Awaitable[object]],
        nudge: Callable[[], None],
    ) -> None:
        self._catalog = catalog
        self._vault = vault
        self._board = board
        self._organizations = organizations
        self._events = events
        self._clock = clock
        self._parse_reference = parse_reference
        self._credential_from = credential_from
        self._revoke_tokens = revoke_tokens
        self._nudge = nudge

    async def create(self, key: GroupKey, request: NewGroup, *, source: str | None = None) -> GroupView:
        """Accept a group and queue the import of its image; nothing is fetched here.

        Args:
            source: The caller's network address, for the audit trail.

        Raises:
            InvalidInputError: The image reference or the registry credentials cannot be read.
            NotFoundError: There is no such organization.
            ConflictError: The project has a group of that name.
        """
        self._refuse_unreadable(request.image)
        await self._require_organization(key.organization)
        group = self._new(key, request)
        await self._insert(group, self._credential(request))
        await self._record("group.created", group, source, image=group.image, version=group.version)
        self._nudge()
        return GroupView(group, group.status_description)

    async def get(self, key: GroupKey) -> GroupView:
        """Return a group. Raises NotFoundError."""
        group = await self._require(key)
        return (await self._views([group]))[0]

    async def list(self, organization: str, project: str) -> Sequence[GroupView]:
        """Return a project's groups, oldest first. Raises NotFoundError: there is no such organization."""
        await self._require_organization(organization)
        return await self._views(await self._catalog.list(organization, project))

    async def delete(self, key: GroupKey, *, source: str | None = None) -> None:
        """Stop a group's import, revoke its pull tokens and forget it; its blobs are left to collection.

        Tokens are revoked on both sides of the removal. Before it, so that a crash in between leaves a
        group that is there and cannot be pulled, and that can be deleted again; after it, for a token
        that was minted in between, or for a group that took the name in between.

        Raises:
            NotFoundError: There is no such group.
        """
        group = await self._require(key)
        await self._revoke_tokens(group.id)
        removed = await self._catalog.delete(key)
        if removed is None:
            raise _no_such(key)
        try:
            await self._revoke_tokens(removed.id)
            await self._vault.forget(removed.job_id)
        finally:
            await self._record("group.deleted", removed, source)

    def _refuse_unreadable(self, image: str) -> None:
        try:
            self._parse_reference(image)
        except ReferenceFormatError as error:
            raise InvalidInputError(
                "The image reference cannot be read.", {"container.image": [str(error)]}
            ) from None

    def _credential(self, request: NewGroup) -> UpstreamCredential | None:
        asked = request.registry_authentication
        if asked is None:
            return None
        try:
            return self._credential_from(asked)
        except InvalidInputError as error:
            fields = {f"container.{path}": reasons for path, reasons in error.fields.items()}
            raise InvalidInputError("The registry credentials cannot be used.", fields) from None

    def _new(self, key: GroupKey, request: NewGroup) -> Group:
        now = self._clock.now()
        return Group(
            id=str(uuid4()),
            key=key,
            image=request.image,
            spec=request.spec,
            version=1,
            autostart=request.autostart,
            status=GroupStatus.PENDING,
            status_description=str(Progress(Stage.PULLING)),
            status_since=now,
            created_at=now,
            updated_at=now,
            job_id=str(uuid4()),
        )

    async def _insert(self, group: Group, credential: UpstreamCredential | None) -> None:
        """Seal the credential first: a worker may claim the job the moment that its row is there."""
        if credential is None:
            await self._catalog.create(group, None)
            return
        credential_key = await self._vault.seal(group.job_id, credential)
        try:
            await self._catalog.create(group, credential_key)
        except BaseException:
            await self._vault.forget(group.job_id)
            raise

    async def _views(self, groups: Sequence[Group]) -> Sequence[GroupView]:
        importing = [group.job_id for group in groups if group.status is GroupStatus.PENDING]
        progress = await self._board.get(importing) if importing else {}
        return [
            GroupView(
                group,
                str(progress.get(group.job_id, group.status_description)),
                progress.get(group.job_id),
            )
            for group in groups
        ]

    async def _require(self, key: GroupKey) -> Group:
        group = await self._catalog.get(key)
        if group is None:
            raise _no_such(key)
        return group

    async def _require_organization(self, name: str) -> None:
        if await self._organizations.get(name) is None:
            raise NotFoundError(f"There is no organization named {name!r}; its operator has to create it.")

    async def _record(self, type_: str, group: Group, source: str | None, **facts: object) -> None:
        detail = {"group_id": group.id, "project": group.key.project, "group": group.key.name, **facts}
        await self._events.record(
            AuditEvent(type=type_, organization=group.key.organization, source=source, detail=detail)
        )


def _no_such(key: GroupKey) -> NotFoundError:
    return NotFoundError(f"There is no container group named {key.name!r} in project {key.project!r}.")
