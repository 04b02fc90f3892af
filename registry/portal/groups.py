"""List of container groups: search, filters, order, and deletion of several."""

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from aiohttp import web

from registry.api.http.peers import peer_of
from registry.api.public.shapes import NAME_PATTERN
from registry.catalog.overview import GroupFilter, GroupOrder
from registry.errors import NotFoundError
from registry.model.access import Role
from registry.model.groups import GroupKey, GroupStatus
from registry.portal.guard import Form, see_other
from registry.portal.services import Views
from registry.portal.sessions import SignedInUser

PAGE: Final = 50
MAX_PAGE: Final = 1000
BUSY_S: Final = 2
QUIET_S: Final = 10
SELECTED: Final = "group:"
"""Prefix of the fields of selected groups; their repository follows."""

_NAME = re.compile(NAME_PATTERN, re.ASCII)
_MAX_WORDS: Final = 200
_PERIODS: Final = {
    "1d": ("the last 24 hours", timedelta(days=1)),
    "7d": ("the last 7 days", timedelta(days=7)),
    "30d": ("the last 30 days", timedelta(days=30)),
}
_ORDERS: Final = {
    GroupOrder.NEWEST: "newest first",
    GroupOrder.OLDEST: "oldest first",
    GroupOrder.CHANGED: "last changed first",
    GroupOrder.NAME: "by name",
    GroupOrder.LARGEST: "largest first",
}


class GroupsViews(Views):
    """Views of the start page, and of the deletion of several groups."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/", self._guard.show(self.index, needs=Role.VIEWER)),
            web.post("/groups/delete/confirm", self._guard.inspect(self.ask_delete, needs=Role.MEMBER)),
            web.post("/groups/delete", self._guard.act(self.delete, needs=Role.MEMBER)),
        ]

    async def index(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Show the groups that the user may see, newest first unless another order is chosen."""
        wanted, number = self._wanted(request, visitor), _page_number(request)
        rows = await self._services.overview.groups(wanted, limit=PAGE + 1, offset=PAGE * (number - 1))
        importing = [row.job_id for row in rows if row.status is GroupStatus.PENDING]
        moving = bool(importing) or any(row.status is GroupStatus.DEPLOYING for row in rows)
        asked = {name: text for name, text in request.query.items() if name in _FILTERS and text}
        return self._pages.live(
            request,
            visitor,
            "groups.html",
            "groups_live.html",
            every_s=BUSY_S if moving else QUIET_S,
            rows=rows[:PAGE],
            progress=await self._services.progress.get(importing),
            wanted=wanted,
            period=request.query.get("created", ""),
            asked=asked,
            is_filtered=bool(asked.keys() - {"sort"}),
            organizations=await self._services.overview.organizations() if visitor.is_operator else [],
            statuses=list(GroupStatus),
            periods={name: label for name, (label, _) in _PERIODS.items()},
            orders=_ORDERS,
            number=number,
            more=len(rows) > PAGE,
        )

    async def ask_delete(self, _request: web.Request, visitor: SignedInUser, form: Form) -> web.Response:
        """Ask for confirmation before the selected groups are deleted."""
        return self._pages.page("delete_groups.html", visitor, keys=_selected(form, visitor), prefix=SELECTED)

    async def delete(self, request: web.Request, visitor: SignedInUser, form: Form) -> web.Response:
        """Delete the selected groups. Those that are deleted already are skipped."""
        for number, key in enumerate(_selected(form, visitor)):
            if number:  # the form itself counts for the first
                await self._guard.count_change(visitor)
            try:
                await self._services.groups.delete(key, source=peer_of(request).source)
            except NotFoundError:
                continue
        return see_other("/")

    def _wanted(self, request: web.Request, visitor: SignedInUser) -> GroupFilter:
        """Return the filter of a request. Values that are not valid are ignored."""
        query = request.query
        status, order = query.get("status", ""), query.get("sort", "")
        _, period = _PERIODS.get(query.get("created", ""), ("", None))
        return GroupFilter(
            organization=visitor.caller.organization or _name(query.get("organization", "")),
            project=_name(query.get("project", "").strip()),
            status=GroupStatus(status) if status in set(GroupStatus) else None,
            words=query.get("q", "").strip()[:_MAX_WORDS],
            created_after=self._services.clock.now() - period if period is not None else None,
            order=GroupOrder(order) if order in set(GroupOrder) else GroupOrder.NEWEST,
        )


_FILTERS: Final = frozenset({"q", "organization", "project", "status", "created", "sort"})


def _selected(form: Form, visitor: SignedInUser) -> Sequence[GroupKey]:
    """Return the selected groups, at most a page of them. Raises NotFoundError: another organization's."""
    keys = []
    for field in form:
        names = field.removeprefix(SELECTED).split("/")
        if field.startswith(SELECTED) and len(names) == 3 and all(map(_NAME.fullmatch, names)):  # noqa: PLR2004
            visitor.require(names[0])
            keys.append(GroupKey(*names))
    return keys[:PAGE]


def _name(text: str) -> str | None:
    return text if _NAME.fullmatch(text) else None


def _page_number(request: web.Request) -> int:
    text = request.query.get("page", "1")
    return min(max(int(text), 1), MAX_PAGE) if text.isascii() and text.isdigit() and len(text) <= 6 else 1  # noqa: PLR2004
