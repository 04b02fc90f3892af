"""Page of one container group, with actions to start, stop, reallocate and delete."""

import re
from contextlib import suppress
from typing import Final

from aiohttp import web

from auth.errors import TokenNotFoundError
from registry.api.http.peers import peer_of
from registry.api.public.shapes import NAME_PATTERN
from registry.errors import InvalidInputError, NotFoundError
from registry.model.access import Role
from registry.model.groups import GroupKey, GroupStatus
from registry.model.imports import Stage
from registry.model.instances import InstanceState
from registry.portal.guard import Form, see_other
from registry.portal.layers import gain_percent, layers_of
from registry.portal.messages import failure
from registry.portal.services import Views
from registry.portal.sessions import SignedInUser

GROUP: Final = "/groups/{organization}/{project}/{name}"

_INSTANCE: Final = GROUP + "/instances/{instance}"
_NAME = re.compile(NAME_PATTERN, re.ASCII)
_PENDING_S: Final = 1
_MOVING_S: Final = 2
_QUIET_S: Final = 10


class GroupViews(Views):
    """Views of one group."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get(GROUP, self._guard.show(self.show, needs=Role.VIEWER)),
            web.get(f"{GROUP}/delete", self._guard.show(self.ask_delete, needs=Role.MEMBER)),
            web.post(f"{GROUP}/delete", self._guard.act(self.delete, needs=Role.MEMBER)),
            web.post(f"{GROUP}/start", self._guard.act(self.start, needs=Role.MEMBER)),
            web.post(f"{GROUP}/stop", self._guard.act(self.stop, needs=Role.MEMBER)),
            web.post(f"{GROUP}/rollback", self._guard.act(self.roll_back, needs=Role.MEMBER)),
            web.post(f"{_INSTANCE}/reallocate", self._guard.act(self.reallocate, needs=Role.MEMBER)),
            web.post(f"{_INSTANCE}/complete", self._guard.act(self.complete, needs=Role.OPERATOR)),
        ]

    async def show(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Show a group's state. The page refreshes itself, more often while something is in progress."""
        key = key_of(request, visitor)
        view = await self._services.groups.get(key)
        group = view.group
        progress = (await self._services.progress.get([group.job_id])).get(group.job_id)
        every_s = {GroupStatus.PENDING: _PENDING_S, GroupStatus.DEPLOYING: _MOVING_S}
        versions = await self._services.overview.versions(group.id)
        instances = await self._services.instances.list(key)
        image = await self._services.catalog.image(group.id, versions[0].version) if versions else None
        return self._pages.live(
            request,
            visitor,
            "group.html",
            "group_live.html",
            every_s=_MOVING_S
            if any(each.progress is not None for each in instances)
            else every_s.get(group.status, _QUIET_S),
            group=group,
            description=view.description,
            progress=progress,
            stages=list(Stage),
            failure=failure(group.status_description, is_operator=visitor.is_operator)
            if group.has_failed
            else None,
            layers=layers_of(image) if image is not None else (),
            platforms=image.platforms if image is not None else (),
            versions=versions,
            gain=gain_percent(versions[0].size_bytes, versions[0].zstd_bytes) if versions else None,
            instances=instances,
            docs_url=self._services.docs_url,
            registry=self._services.origin.host(request),
        )

    async def ask_delete(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Ask for confirmation before a group is deleted."""
        view = await self._services.groups.get(key_of(request, visitor))
        return self._pages.page("delete_group.html", visitor, group=view.group)

    async def delete(self, request: web.Request, visitor: SignedInUser, _form: Form) -> web.Response:
        """Delete a group."""
        await self._services.groups.delete(key_of(request, visitor), source=peer_of(request).source)
        return see_other("/")

    async def start(self, request: web.Request, visitor: SignedInUser, _form: Form) -> web.Response:
        """Start a group."""
        key = key_of(request, visitor)
        await self._services.groups.start(key, source=peer_of(request).source)
        return see_other(f"/groups/{key.repository}")

    async def stop(self, request: web.Request, visitor: SignedInUser, _form: Form) -> web.Response:
        """Stop a group."""
        key = key_of(request, visitor)
        await self._services.groups.stop(key, source=peer_of(request).source)
        return see_other(f"/groups/{key.repository}")

    async def roll_back(self, request: web.Request, visitor: SignedInUser, form: Form) -> web.Response:
        """Return a group to an earlier version."""
        key, version = key_of(request, visitor), form.get("version", "")
        if not version.isascii() or not version.isdigit() or len(version) > 10:  # noqa: PLR2004 (of an int32)
            raise InvalidInputError("The form names no version. Go back to the group, and choose one.")
        await self._services.groups.roll_back(key, int(version), source=peer_of(request).source)
        return see_other(f"/groups/{key.repository}")

    async def reallocate(self, request: web.Request, visitor: SignedInUser, _form: Form) -> web.Response:
        """Release an instance's node, so that another node can take its place."""
        key = key_of(request, visitor)
        instance = request.match_info["instance"]
        await self._services.instances.reallocate(key, instance, source=peer_of(request).source)
        return see_other(f"/groups/{key.repository}")

    async def complete(self, request: web.Request, visitor: SignedInUser, _form: Form) -> web.Response:
        """Report that an instance's node has the image, which ends the session of its pull."""
        key = key_of(request, visitor)
        view = await self._services.instances.get(key, request.match_info["instance"])
        with suppress(TokenNotFoundError):
            await self._services.authority.complete((view.newer or view.instance).token_id)
        source = peer_of(request).source
        await self._services.instances.report(view.instance.id, key, InstanceState.CREATING, source=source)
        return see_other(f"/groups/{key.repository}")


def key_of(request: web.Request, visitor: SignedInUser) -> GroupKey:
    """Read a group's key from the URL. Raises NotFoundError: invalid, or another organization's."""
    names = [request.match_info[part] for part in ("organization", "project", "name")]
    if not all(_NAME.fullmatch(name) for name in names):
        raise NotFoundError("This is not a valid name of a container group. Check the URL.")
    visitor.require(names[0])
    return GroupKey(*names)
