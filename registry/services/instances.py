"""Instances: the nodes that are designated for a group, and the state of their pulls.

    allocating ──token redeemed──> downloading ──has the image──> creating ──reported──> running
        └──────────────┴── all its tokens ended earlier: the node is released

The ledger records what a session has delivered; `registry.model.pulls` decides when a node has the image. The
catalog stores the last observed state, so that it outlives the tokens. States are refreshed on every read,
and every few seconds in the background.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Final, Protocol

from auth.actor import acting_as
from auth.audit import EventType
from auth.errors import TokenNotFoundError
from auth.ports import AuditTrail, Clock
from auth.records import TokenView
from registry.audit.types import RegistryEventType
from registry.catalog.instances import InstanceToken, SqlInstances
from registry.catalog.node_blobs import SqlNodeBlobs
from registry.errors import NotFoundError
from registry.model.groups import Group, GroupCatalog, GroupKey
from registry.model.images import StoredImage
from registry.model.instances import (
    HAS_IMAGE,
    HOLDING,
    UNSETTLED,
    Instance,
    InstanceState,
    KnownBy,
    instance_event,
    state_event,
)
from registry.model.pulls import GONE, Pull, decide, delivered_in, is_watched, judge, platforms_of
from registry.services.quotas import OrganizationQuotas
from registry.services.views import InstanceView

SWEEP_S: Final = 2.0
NO_DETAILS: Final[Mapping[str, object]] = MappingProxyType({})

_AT_ONCE: Final = 16
_PAGE: Final = 500


class TokenControl(Protocol):
    """The operations of the token authority that instances need (`auth.authority.Authority`)."""

    async def show(self, token_id: str) -> TokenView:
        """Return a token's current state. Raises TokenNotFoundError."""

    async def revoke(self, token_id: str) -> TokenView:
        """Revoke a token. Raises TokenNotFoundError."""


class Instances:
    """Reads, refreshes, reallocates and restarts the instances of groups.

    Args:
        catalog: The designated nodes with their last observed states.
        groups: The groups.
        tokens: The token authority.
        quotas: Quotas of the groups' organizations.
        node_blobs: Remembers the blobs that nodes got in full.
        image_of: Returns the image of a session by repository and digest, or None.
        dismiss_tokens: Revokes every token of a group; new ones may be minted immediately.
    """

    def __init__(
        self,
        *,
        catalog: SqlInstances,
        groups: GroupCatalog,
        tokens: TokenControl,
        quotas: OrganizationQuotas,
        node_blobs: SqlNodeBlobs,
        image_of: Callable[[str, str], Awaitable[StoredImage | None]],
        dismiss_tokens: Callable[[Group], Awaitable[object]],
        trail: AuditTrail,
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._groups = groups
        self._tokens = tokens
        self._quotas = quotas
        self._node_blobs = node_blobs
        self._image_of = image_of
        self._dismiss_tokens = dismiss_tokens
        self._trail = trail
        self._clock = clock

    async def list(self, key: GroupKey) -> Sequence[InstanceView]:
        """Return a group's instances in their current states, oldest first. Raises NotFoundError."""
        group = await self._require_group(key)
        views = await self._refresh_all([(group, each) for each in await self._catalog.of_group(group.id)])
        return [view for view in views if view is not None]

    async def get(self, key: GroupKey, instance_id: str) -> InstanceView:
        """Return an instance in its current state. Raises NotFoundError."""
        group, instance = await self._require(key, instance_id)
        (view,) = await self._refresh_all([(group, instance)])
        if view is None:
            raise _no_such()
        return view

    async def set_deletion_cost(
        self, key: GroupKey, instance_id: str, cost: int, *, source: str | None = None
    ) -> InstanceView:
        """Change the deletion cost of an instance. Raises NotFoundError."""
        group, instance = await self._require(key, instance_id)
        facts = {"deletion_cost": cost}
        changed = instance_event(RegistryEventType.INSTANCE_UPDATED, group, instance, facts, source=source)
        if not await self._catalog.set_deletion_cost(instance.id, cost, changed):
            raise _no_such()
        return await self.get(key, instance_id)

    async def reallocate(self, key: GroupKey, instance_id: str, *, source: str | None = None) -> None:
        """Release an instance's node and revoke its tokens, so that another node can take its place.

        Tokens are revoked first, so that a released node never holds a valid token.

        Raises:
            NotFoundError: No such group or instance.
            RateLimitedError: The organization reallocates too many instances per minute.
        """
        group, instance = await self._require(key, instance_id)
        await self._quotas.take(key.organization, "reallocations_per_minute", "reallocate")
        await self._revoke(instance)
        event = instance_event(RegistryEventType.INSTANCE_REALLOCATED, group, instance, source=source)
        if not await self._catalog.free(group, instance, event):
            await self._trail.record(event)  # a refresh saw the revoked tokens, and released the node

    async def recreate(self, key: GroupKey, instance_id: str, *, source: str | None = None) -> None:
        """Request that an instance's container is created again on its node. Raises NotFoundError."""
        await self._request_restart(key, instance_id, RegistryEventType.INSTANCE_RECREATED, source)

    async def restart(self, key: GroupKey, instance_id: str, *, source: str | None = None) -> None:
        """Request that an instance's container is restarted on its node. Raises NotFoundError."""
        await self._request_restart(key, instance_id, RegistryEventType.INSTANCE_RESTARTED, source)

    async def report(
        self,
        instance_id: str,
        key: GroupKey,
        state: InstanceState,
        details: Mapping[str, object] = NO_DETAILS,
        *,
        source: str | None = None,
    ) -> InstanceView:
        """Set the state that a scheduler reports for an instance's container.

        If the node pulls a newer version than it has, the report is about the newer one.

        Args:
            details: What else it reports; None removes an earlier value, omitted values stay.

        Raises:
            NotFoundError: No such group or instance.
        """
        group, instance = await self._require(key, instance_id)
        tokens = await self._catalog.open_tokens([instance_id]) if instance.is_watched else {}
        view = await self._refresh_one(group, instance, tokens.get(instance_id, ()), lapses=False)
        if view is None:
            raise _no_such()
        before = view.instance
        after = replace(before, state=state, known_by=KnownBy.REPORTED)
        if view.newer is not None and state in HAS_IMAGE:
            after = replace(after, version=view.newer.version, token_id=view.newer.token_id)
        if after != before:
            event = partial(state_event, group, source=source)
            await self._catalog.advance(group, before, after, event)
        if details:
            group, instance = await self._require(key, instance_id)
            merged = {**instance.report, **details}
            report = {name: value for name, value in merged.items() if value is not None}
            if not await self._catalog.store_report(instance, report):
                raise _no_such()
        return await self.get(key, instance_id)

    async def refresh(self, group: Group) -> bool:
        """Refresh the states of a group's instances. Returns True if the group itself may have changed."""
        before = await self._catalog.of_group(group.id)
        views = await self._refresh_all([(group, instance) for instance in before if instance.is_watched])
        return any(view is None or view.instance not in before for view in views)

    async def counts(self, group_ids: Sequence[str]) -> Mapping[str, Mapping[InstanceState, int]]:
        """Count the instances of groups by last observed state."""
        return await self._catalog.counts(group_ids)

    async def dismiss(self, group: Group) -> None:
        """Release all nodes of a group and revoke their tokens."""
        await self._dismiss_tokens(group)
        await self._catalog.free_all(group)

    async def sweep(self) -> None:
        """Refresh the least recently checked instances."""
        await self._refresh_all(await self._catalog.watched(_PAGE))

    async def _refresh_all(self, found: Sequence[tuple[Group, Instance]]) -> Sequence[InstanceView | None]:
        watched = [instance.id for _, instance in found if instance.is_watched]
        tokens = await self._catalog.open_tokens(watched) if watched else {}
        views: list[InstanceView | None] = []
        for start in range(0, len(found), _AT_ONCE):
            batch = found[start : start + _AT_ONCE]
            views += await asyncio.gather(
                *(self._refresh_one(group, each, tokens.get(each.id, ())) for group, each in batch)
            )
        return views

    async def _refresh_one(
        self, group: Group, instance: Instance, tokens: Sequence[InstanceToken], *, lapses: bool = True
    ) -> InstanceView | None:
        """Refresh one instance; None if its tokens have ended and its node was released.

        Its events have no actor: the node caused them, not the caller who looks.

        Args:
            lapses: Whether the node may be released: not if its scheduler reports what it does.
        """
        if not instance.is_watched:
            return InstanceView(instance, group)
        with acting_as(None):
            return await self._observe(group, instance, tokens, lapses=lapses)

    async def _observe(
        self, group: Group, instance: Instance, tokens: Sequence[InstanceToken], *, lapses: bool
    ) -> InstanceView | None:
        views = [await self._show(token.token_id) for token in tokens]
        pulls = await self._judge(group, instance.node_id, tokens, views)
        following = decide(instance, pulls)
        ended = [pull.token_id for pull in pulls if pull.status.has_ended]
        if ended or (following is not None and following.status.known_by is not None):
            gained, lost = delivered_in([view for view in views if view is not None])
            if gained or lost:
                await self._node_blobs.record(group.key.organization, instance.node_id, gained, lost)
        if following is not None:
            instance = await self._follow(group, instance, following)
        if ended:
            await self._catalog.end_tokens(ended)
        if lapses and instance.state in UNSETTLED and len(ended) == len(pulls):
            cause = next((view.state.value for view in views if view is not None), "expired")
            event = instance_event(RegistryEventType.INSTANCE_LAPSED, group, instance, cause=cause)
            if await self._catalog.lapse(group, instance, event):
                return None
        elif not is_watched(instance, pulls):
            await self._catalog.unwatch(group, instance, [token.token_id for token in tokens])
        return _view(group, instance, pulls)

    async def _show(self, token_id: str) -> TokenView | None:
        try:
            return await self._tokens.show(token_id)
        except TokenNotFoundError:
            return None

    async def _judge(
        self,
        group: Group,
        node_id: str,
        tokens: Sequence[InstanceToken],
        views: Sequence[TokenView | None],
    ) -> Sequence[Pull]:
        """Judge the tokens of an instance, each with the blobs that the other sessions delivered."""
        keys = {key for view in views if view and view.session for key in view.session.blobs}
        had = set(await self._node_blobs.had(group.key.organization, node_id, keys)) if keys else set()
        pulls = []
        for token, view in zip(tokens, views, strict=True):
            status = GONE
            if view is not None:
                others, _ = delivered_in([each for each in views if each is not None and each is not view])
                image = await self._image_of(view.repository, view.image_digest) if view.session else None
                status = judge(view, platforms_of(image, view), had | others)
            pulls.append(Pull(token.token_id, token.version, status))
        return pulls

    async def _follow(self, group: Group, instance: Instance, pull: Pull) -> Instance:
        """Store the state that follows from a pull. Returns the instance as it is stored."""
        status = pull.status
        after = replace(
            instance,
            state=status.state or instance.state,
            version=pull.version,
            token_id=pull.token_id,
            known_by=status.known_by,
        )
        as_seen = (instance.state, instance.version, instance.known_by)
        changed = (after.state, after.version, after.known_by) != as_seen
        event = partial(state_event, group) if changed else None
        stored = await self._catalog.advance(group, instance, after, event)
        if stored is None:  # another process refreshed it meanwhile
            stored = await self._catalog.get(group.id, instance.id)
        return stored or instance

    async def _request_restart(
        self, key: GroupKey, instance_id: str, type_: EventType, source: str | None
    ) -> None:
        """Record the request for the scheduler. An instance without its image keeps its state."""
        group, instance = await self._require(key, instance_id)
        await self._quotas.take(key.organization, "reallocations_per_minute", type_.value)
        event = partial(instance_event, type_, group, source=source)
        restarted = type_ is RegistryEventType.INSTANCE_RESTARTED
        if instance.state in UNSETTLED:
            await self._trail.record(event(instance))
        elif not await self._catalog.advance(
            group, instance, replace(instance, state=InstanceState.CREATING), event, keeps_version=restarted
        ):
            raise _no_such()

    async def _revoke(self, instance: Instance) -> None:
        for token_id in {instance.token_id, *await self._catalog.tokens(instance.id)}:
            try:
                await self._tokens.revoke(token_id)
            except TokenNotFoundError:
                continue  # expired and already removed from the ledger

    async def _require(self, key: GroupKey, instance_id: str) -> tuple[Group, Instance]:
        group = await self._require_group(key)
        instance = await self._catalog.get(group.id, instance_id)
        if instance is None:
            raise _no_such()
        return group, instance

    async def _require_group(self, key: GroupKey) -> Group:
        group = await self._groups.get(key)  # with its spec, which has the probes
        if group is None:
            raise NotFoundError(f"There is no container group named {key.name!r} in project {key.project!r}.")
        return group


def _view(group: Group, instance: Instance, pulls: Sequence[Pull]) -> InstanceView:
    moving = [pull for pull in pulls if pull.status.state is InstanceState.DOWNLOADING]
    if instance.state is InstanceState.DOWNLOADING:
        percent = max((pull.status.percent for pull in moving), default=0.0)
        return InstanceView(instance, group, percent)
    newer = [pull for pull in moving if pull.version > instance.version]
    newest = max(newer, key=lambda pull: pull.version, default=None)
    return InstanceView(instance, group, newer=newest if instance.state in HOLDING else None)


def _no_such() -> NotFoundError:
    return NotFoundError("The container group has no such instance.")
