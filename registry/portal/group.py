"""Page of one container group."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from registry.api.public.shapes import NAME_PATTERN
from registry.catalog.overview import VersionRow
from registry.errors import NotFoundError
from registry.model.access import Role
from registry.model.groups import Group, GroupKey, GroupStatus
from registry.model.imports import Stage
from registry.portal.configuration import configuration_of
from registry.portal.layers import gain_percent, layers_of
from registry.portal.messages import failure
from registry.portal.origin import origins_of
from registry.portal.services import Views
from registry.portal.sessions import SignedInUser
from registry.portal.timeline import timeline_of

GROUP: Final = "/groups/{organization}/{project}/{name}"
TIMELINE: Final = 15
"""Events that the page shows; the audit trail has the older ones."""

_NAME = re.compile(NAME_PATTERN, re.ASCII)
_PENDING_S: Final = 1
_MOVING_S: Final = 2
_QUIET_S: Final = 10


@dataclass(frozen=True, slots=True)
class Version:
    """A version in a group's list.

    Attributes:
        state: What it is to the nodes, in a word: `served`, `stored`, `importing` or `failed`.
        stored: Its stored image; None while it is imported, or if that failed.
        can_return: Whether the group can be rolled back to it.
    """

    number: int
    image: str
    state: str
    stored: VersionRow | None = None
    can_return: bool = False


class GroupViews(Views):
    """View of one group."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.get(GROUP, self._guard.show(self.show, needs=Role.VIEWER))]

    async def show(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Show a group's state. The page refreshes itself, more often while something is in progress."""
        key = key_of(request, visitor)
        view = await self._services.groups.get(key)
        group = view.group
        stored = await self._services.overview.versions(group.id)
        instances = await self._services.instances.list(key)
        image = await self._services.catalog.image(group.id, stored[0].version) if stored else None
        origins = (
            await origins_of(
                self._services.images,
                key.organization,
                stored[0].digest,
                is_operator=visitor.is_operator,
            )
            if stored
            else ()
        )
        events = await self._services.group_events.newest(group.id, TIMELINE)
        every_s = {GroupStatus.PENDING: _PENDING_S, GroupStatus.DEPLOYING: _MOVING_S}
        return self._pages.live(
            request,
            visitor,
            "group.html",
            "group_live.html",
            every_s=_MOVING_S
            if any(each.progress is not None for each in instances)
            else every_s.get(group.status, _QUIET_S),
            group=group,
            shown_status=_shown_status(group),
            description=view.description,
            progress=view.progress,
            stages=list(Stage),
            failure=failure(group.status_description, is_operator=visitor.is_operator)
            if group.has_failed
            else None,
            layers=layers_of(image) if image is not None else (),
            platforms=image.platforms if image is not None else (),
            versions=stored,
            origins=origins,
            history=history_of(group, stored),
            gain=gain_percent(stored[0].size_bytes, stored[0].zstd_bytes) if stored else None,
            instances=instances,
            timeline=timeline_of(events),
            has_older=len(events) == TIMELINE,
            configuration=configuration_of(view),
            values_shown=request.query.get("values") == "shown",
            docs_url=self._services.docs_url,
            registry=self._services.origin.host(request),
        )


def history_of(group: Group, stored: Sequence[VersionRow]) -> Sequence[Version]:
    """Return the stored versions, the newest first, after a version that is imported or has failed."""
    rows = [
        Version(
            row.version,
            row.image,
            "served" if row.version == group.served_version else "stored",
            row,
            can_return=row.version != group.version,
        )
        for row in stored
    ]
    if group.served_version != group.version:
        state = "importing" if group.status is GroupStatus.PENDING else "failed"
        rows.insert(0, Version(group.version, group.image, state))
    return rows


def _shown_status(group: Group) -> GroupStatus:
    """Return the status of what nodes get. An import of a further version does not change it."""
    if group.status is GroupStatus.PENDING and group.served_version is not None:
        return group.resume_status or group.status
    return group.status


def key_of(request: web.Request, visitor: SignedInUser) -> GroupKey:
    """Read a group's key from the URL. Raises NotFoundError: invalid, or another organization's."""
    names = [request.match_info[part] for part in ("organization", "project", "name")]
    if not all(_NAME.fullmatch(name) for name in names):
        raise NotFoundError("This is not a valid name of a container group. Check the URL.")
    visitor.require(names[0])
    return GroupKey(*names)
