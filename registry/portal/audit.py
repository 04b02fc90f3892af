"""Page of the audit trail, newest events first."""

import asyncio
from dataclasses import replace
from datetime import MAXYEAR, UTC, date, datetime, time, timedelta
from typing import Final

from aiohttp import hdrs, web
from yarl import URL

from registry.audit.types import EVENT_TYPES
from registry.catalog.overview import EventFilter
from registry.model.access import Role
from registry.portal.audit_export import FORMATS, MAX_EVENTS, columns_of
from registry.portal.guard import Guard
from registry.portal.pages import HEADERS, Pages
from registry.portal.services import Services, Views
from registry.portal.sessions import SignedInUser

AUDIT: Final = "/audit"
PAGE: Final = 50

_LIVE_S: Final = 3
_EXPORT_PAGE: Final = 1000
_EXPORTS_AT_ONCE: Final = 2  # others wait
_MAX_LENGTH: Final = 128
_MAX_CURSOR_DIGITS: Final = 18


class AuditViews(Views):
    """View of the audit trail."""

    def __init__(self, guard: Guard, pages: Pages, services: Services) -> None:
        super().__init__(guard, pages, services)
        self._exports = asyncio.Semaphore(_EXPORTS_AT_ONCE)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get(AUDIT, self._guard.show(self.show, needs=Role.VIEWER)),
            web.get(AUDIT + "/events.{format:csv|jsonl}", self._guard.show(self.export, needs=Role.VIEWER)),
        ]

    async def export(self, request: web.Request, visitor: SignedInUser) -> web.StreamResponse:
        """Send the newest events of the filter as a file, newest first."""
        name = request.match_info["format"]
        content_type, head, lines = FORMATS[name]
        columns = columns_of(with_source=visitor.is_operator)
        response = web.StreamResponse(headers=HEADERS)
        response.headers[hdrs.CONTENT_TYPE] = content_type
        response.headers[hdrs.CONTENT_DISPOSITION] = f'attachment; filename="events.{name}"'
        wanted, before = self._wanted(request, visitor), None
        async with self._exports:
            await response.prepare(request)
            await response.write(head(columns).encode())
            for _ in range(0, MAX_EVENTS, _EXPORT_PAGE):
                found = await self._services.overview.events(wanted, before=before, limit=_EXPORT_PAGE)
                await response.write(lines(found, columns).encode())
                if len(found) < _EXPORT_PAGE:
                    break
                before = found[-1].cursor
            await response.write_eof()
        return response

    def _wanted(self, request: web.Request, visitor: SignedInUser) -> EventFilter:
        """Return the filter of a request. Customers see only their organization's events."""
        own = visitor.caller.organization
        return _filter(request) if own is None else replace(_filter(request), organization=own)

    async def show(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Show a page of events. The newest page refreshes itself."""
        wanted = self._wanted(request, visitor)
        before = _cursor(request.query.get("before", ""))
        found = await self._services.overview.events(wanted, before=before, limit=PAGE + 1)
        events, more = found[:PAGE], len(found) > PAGE
        asked = {name: text for name, text in _asked(request).items() if text}
        if not visitor.is_operator:
            asked.pop("organization", None)
        return self._pages.live(
            request,
            visitor,
            "audit.html",
            "audit_live.html",
            every_s=0 if before else _LIVE_S,
            events=events,
            wanted=wanted,
            types=EVENT_TYPES,
            period={"from": asked.get("from", ""), "to": asked.get("to", "")},
            organizations=await self._services.overview.organizations() if visitor.is_operator else [],
            is_filtered=bool(asked),
            is_latest=before is None,
            newest=str(URL(AUDIT).with_query(asked)),
            exports={name: str(URL(f"{AUDIT}/events.{name}").with_query(asked)) for name in FORMATS},
            most=MAX_EVENTS,
            older=str(URL(AUDIT).with_query({**asked, "before": events[-1].cursor})) if more else "",
        )


def _asked(request: web.Request) -> dict[str, str]:
    names = ("type", "organization", "token", "node", "group", "from", "to")
    return {name: request.query.get(name, "").strip()[:_MAX_LENGTH] for name in names}


def _filter(request: web.Request) -> EventFilter:
    asked = _asked(request)
    return EventFilter(
        type=asked["type"] or None,
        organization=asked["organization"] or None,
        token_id=asked["token"] or None,
        node_id=asked["node"] or None,
        group_id=asked["group"] or None,
        since=_day(asked["from"]),
        until=_next_day(asked["to"]),
    )


def _day(text: str) -> datetime | None:
    """Return the begin of a day in UTC; None if the text is no date."""
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError:
        return None


def _next_day(text: str) -> datetime | None:
    day = _day(text)
    return day + timedelta(days=1) if day is not None and day.year < MAXYEAR else None


def _cursor(text: str) -> int | None:
    is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_CURSOR_DIGITS
    return int(text) if is_number else None
