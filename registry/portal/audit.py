"""Page of the audit trail, newest events first."""

from dataclasses import replace
from typing import Final

from aiohttp import web
from yarl import URL

from registry.audit.types import EVENT_TYPES
from registry.catalog.overview import EventFilter
from registry.portal.services import Views
from registry.portal.sessions import SignedInUser

AUDIT: Final = "/audit"
PAGE: Final = 50

_LIVE_S: Final = 3
_MAX_LENGTH: Final = 128
_MAX_CURSOR_DIGITS: Final = 18


class AuditViews(Views):
    """View of the audit trail."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.get(AUDIT, self._guard.show(self.show))]

    async def show(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Show a page of events. The newest page refreshes itself."""
        wanted = _filter(request)
        own = visitor.caller.organization
        if own is not None:
            wanted = replace(wanted, organization=own)
        before = _cursor(request.query.get("before", ""))
        found = await self._services.overview.events(wanted, before=before, limit=PAGE + 1)
        events, more = found[:PAGE], len(found) > PAGE
        asked = {name: text for name, text in _asked(request).items() if text}
        return self._pages.live(
            request,
            visitor,
            "audit.html",
            "audit_live.html",
            every_s=0 if before else _LIVE_S,
            events=events,
            wanted=wanted,
            types=EVENT_TYPES,
            organizations=await self._services.overview.organizations() if visitor.is_operator else [],
            is_filtered=bool(asked),
            is_latest=before is None,
            newest=str(URL(AUDIT).with_query(asked)),
            older=str(URL(AUDIT).with_query({**asked, "before": events[-1].cursor})) if more else "",
        )


def _asked(request: web.Request) -> dict[str, str]:
    names = ("type", "organization", "token", "node")
    return {name: request.query.get(name, "").strip()[:_MAX_LENGTH] for name in names}


def _filter(request: web.Request) -> EventFilter:
    asked = _asked(request)
    return EventFilter(
        type=asked["type"] or None,
        organization=asked["organization"] or None,
        token_id=asked["token"] or None,
        node_id=asked["node"] or None,
    )


def _cursor(text: str) -> int | None:
    is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_CURSOR_DIGITS
    return int(text) if is_number else None
