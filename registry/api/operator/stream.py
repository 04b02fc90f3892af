"""The audit trail as server-sent events (HTML, section 9.2, "Server-sent events")."""

import asyncio
from contextlib import suppress
from typing import Final

from aiohttp import web

from registry.api.http import sse
from registry.api.operator import documents
from registry.api.operator.requests import EventFilters, event_filters, whole_number
from registry.audit.trail import StoredEvent
from registry.catalog.events import SqlEventLog
from registry.errors import CatalogUnavailableError

MAX_STREAMS: Final = 64

_POLL_S = 0.5
_PAGE = 200


class EventStream:
    """Handler of `/events/stream`: reads the catalog behind each reader's cursor, page by page.

    What a reader does not take stays in the catalog; a reader that takes nothing for 30 s is dropped, and
    goes on where it was with `Last-Event-ID`.

    Args:
        poll_s: How often the catalog is asked; bounds how late an event is told.
        heartbeat_s: The longest silence, so that proxies and readers know the connection lives.
    """

    def __init__(
        self, events: SqlEventLog, *, poll_s: float = _POLL_S, heartbeat_s: float = sse.HEARTBEAT_S
    ) -> None:
        self._events = events
        self._poll_s = poll_s
        self._heartbeat_s = heartbeat_s
        self._stopping = asyncio.Event()
        self._readers = 0

    async def stop(self, _app: web.Application) -> None:
        """End every stream, so that the server can go; readers come back by themselves."""
        self._stopping.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer events as they are appended, from `Last-Event-ID`, else `after`, else from now on."""
        filters = event_filters(request)
        given = request.headers.get("Last-Event-ID") or request.query.get("after")
        after = whole_number(given, "after", -1)
        if self._readers >= MAX_STREAMS:
            raise web.HTTPServiceUnavailable(text="Too many readers of the event stream.")
        self._readers += 1
        try:
            if after < 0:
                after = await self._events.latest()
            response = sse.stream()
            await response.prepare(request)
            with suppress(TimeoutError, CatalogUnavailableError, ConnectionError):
                await self._send(response, after, filters)
            return response
        finally:
            self._readers -= 1

    async def _send(self, response: web.StreamResponse, after: int, filters: EventFilters) -> None:
        loop = asyncio.get_running_loop()
        await sse.write(response, b": the audit trail\n\n")
        spoke = loop.time()
        while not self._stopping.is_set():
            page = await self._events.page(after=after, limit=_PAGE, **filters)
            if page:
                after = page[-1].cursor
                await sse.write(response, b"".join(map(_message, page)))
                spoke = loop.time()
            elif loop.time() - spoke >= self._heartbeat_s:
                await sse.write(response, sse.SILENT)
                spoke = loop.time()
            if len(page) < _PAGE:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), self._poll_s)


def _message(stored: StoredEvent) -> bytes:
    return sse.message(stored.type, documents.event(stored), stored.cursor)
