"""Instances: the nodes that are designated for a group, and the state of their pulls.

    allocating ──token redeemed──> downloading ──all blobs delivered, or reported──> creating ──> running
        └───────────────┴── token ended earlier: the node is released

The ledger records what a session has delivered. The catalog stores the last observed state, so that it
outlives the token. States are refreshed on every read, and every few seconds in the background.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final, Protocol

from auth.audit import EventType
from auth.errors import TokenNotFoundError
from auth.ports import AuditTrail, Clock
from auth.records import SessionView, TokenState, TokenView
from registry.audit.types import RegistryEventType
from registry.catalog.instances import SqlInstances
from registry.errors import NotFoundError
from registry.model.groups import Group, GroupCatalog, GroupKey
from registry.model.instances import (
    HAS_IMAGE,
    UNSETTLED,
    Instance,
    InstanceState,
    instance_event,
    state_event,
)
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
        dismiss_tokens: Revokes every token of a group; new ones may be minted immediately.
    """

    def __init__(
        self,
        *,
        catalog: SqlInstances,
        groups: GroupCatalog,
        tokens: TokenControl,
        quotas: OrganizationQuotas,
        dismiss_tokens: Callable[[Group], Awaitable[object]],
        trail: AuditTrail,
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._groups = groups
        self._tokens = tokens
        self._quotas = quotas
        self._dismiss_tokens = dismiss_tokens
        self._trail = trail
        self._clock = clock

    async def list(self, key: GroupKey) -> Sequence[InstanceView]:
        """Return a group's instances in their current states, oldest first. Raises NotFoundError."""
        group = await self._require_group(key)
        views = await self._refresh_all(group, await self._catalog.of_group(group.id))
        return [view for view in views if view is not None]

    async def get(self, key: GroupKey, instance_id: str) -> InstanceView:
        """Return an instance in its current state. Raises NotFoundError."""
        group, instance = await self._require(key, instance_id)
        (view,) = await self._refresh_all(group, [instance])
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
        if not await self._catalog.free(instance, event):
            raise _no_such()

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
        """Set the state that a scheduler reports for an instance's container. Raises NotFoundError.

        Args:
            details: What else it reports; None removes an earlier value, omitted values stay.
        """
        group, instance = await self._require(key, instance_id)
        if instance.state is not state:
            event = state_event(state, group, instance, source=source)
            await self._catalog.advance(group, instance, state, event)
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
        moving = [instance for instance in before if instance.state in UNSETTLED]
        views = await self._refresh_all(group, moving)
        return any(view is not None and view.instance.state in HAS_IMAGE for view in views)

    async def counts(self, group_ids: Sequence[str]) -> Mapping[str, Mapping[InstanceState, int]]:
        """Count the instances of groups by last observed state."""
        return await self._catalog.counts(group_ids)

    async def dismiss(self, group: Group) -> None:
        """Release all nodes of a group and revoke their tokens."""
        await self._dismiss_tokens(group)
        await self._catalog.free_all(group)

    async def sweep(self) -> None:
        """Refresh the least recently checked instances."""
        waiting = await self._catalog.unsettled(_PAGE)
        for start in range(0, len(waiting), _AT_ONCE):
            batch = waiting[start : start + _AT_ONCE]
            await asyncio.gather(*(self._refresh_one(group, instance) for group, instance in batch))

    async def _refresh_all(self, group: Group, found: Sequence[Instance]) -> Sequence[InstanceView | None]:
        views: list[InstanceView | None] = []
        for start in range(0, len(found), _AT_ONCE):
            batch = found[start : start + _AT_ONCE]
            views += await asyncio.gather(*(self._refresh_one(group, instance) for instance in batch))
        return views

    async def _refresh_one(self, group: Group, instance: Instance) -> InstanceView | None:
        """Refresh one instance; None if its token has ended and its node was released."""
        if instance.state not in UNSETTLED:
            return InstanceView(instance, group)
        try:
            view = await self._tokens.show(instance.token_id)
        except TokenNotFoundError:
            await self._lapse(group, instance, "expired")
            return None
        state = _state_of(view)
        if state is None:
            await self._lapse(group, instance, view.state.value)
            return None
        if state is not instance.state:
            event = state_event(state, group, instance)
            await self._catalog.advance(group, instance, state, event)
            instance = replace(instance, state=state, updated_at=self._clock.now())
        downloading = state is InstanceState.DOWNLOADING and view.session is not None
        return InstanceView(instance, group, _percent(view, view.session) if downloading else None)

    async def _lapse(self, group: Group, instance: Instance, cause: str) -> None:
        event = instance_event(RegistryEventType.INSTANCE_LAPSED, group, instance, cause=cause)
        await self._catalog.free(instance, event)

    async def _request_restart(
        self, key: GroupKey, instance_id: str, type_: EventType, source: str | None
    ) -> None:
        """Record the request for the scheduler. An instance without its image keeps its state."""
        group, instance = await self._require(key, instance_id)
        await self._quotas.take(key.organization, "reallocations_per_minute", type_.value)
        event = instance_event(type_, group, instance, source=source)
        restarted = type_ is RegistryEventType.INSTANCE_RESTARTED
        if instance.state in UNSETTLED:
            await self._trail.record(event)
        elif not await self._catalog.advance(
            group, instance, InstanceState.CREATING, event, keeps_version=restarted
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
        group = await self._groups.get(key)
        if group is None:
            raise NotFoundError(f"There is no container group named {key.name!r} in project {key.project!r}.")
        return group


def _state_of(view: TokenView) -> InstanceState | None:
    """Derive the instance state from a token; None if the token ended before the node had the image."""
    session = view.session
    is_complete = session is not None and 0 < session.blobs_total == session.blobs_complete
    if is_complete or view.state is TokenState.DONE:
        return InstanceState.CREATING
    if view.state is TokenState.MINTED:
        return InstanceState.ALLOCATING
    return InstanceState.DOWNLOADING if view.state is TokenState.ACTIVE else None


def _percent(view: TokenView, session: SessionView | None) -> float:
    if session is None or view.image_size <= 0:
        return 0.0
    return min(100.0, round(100 * session.bytes_covered / view.image_size, 1))


def _no_such() -> NotFoundError:
    return NotFoundError("The container group has no such instance.")
