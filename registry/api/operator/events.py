"""The operator API's audit trail: pages, and server-sent events (HTML, section 9.2)."""

import asyncio
from contextlib import suppress
from typing import Annotated, ClassVar, Final, TypedDict

from aiohttp import web
from aiohttp_sse import EventSourceResponse
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from auth.actor import ActorKind
from registry.api.endpoint import Call, Endpoint
from registry.api.http.event_stream import open_stream
from registry.api.operator.shapes import Count, Document, Instant
from registry.api.validation import Query, WholeNumber
from registry.audit.trail import StoredEvent
from registry.catalog.events import SqlEventLog
from registry.errors import CatalogUnavailableError

MAX_STREAMS: Final = 64

_MAX_PAGE: Final = 1000
_STREAM_PAGE: Final = 200
_POLL_S: Final = 0.5

_Word = str | SkipJsonSchema[None]


class Filters(TypedDict):
    """Filters of the audit trail; None matches all events."""

    type_: str | None
    organization: str | None
    token_id: str | None


class StreamQuery(Query):
    """Query of an event stream: its start and filters."""

    after: Annotated[
        WholeNumber | SkipJsonSchema[None], Field(description="Cursor of the last event already read.")
    ] = None
    type: Annotated[_Word, Field(description="Only events of this type.")] = None
    organization_name: Annotated[_Word, Field(description="Only events of this organization.")] = None
    token_id: Annotated[_Word, Field(description="Only events of this token.")] = None

    def filters(self) -> Filters:
        """Return the filters as the trail takes them."""
        return Filters(type_=self.type, organization=self.organization_name, token_id=self.token_id)


class EventQuery(StreamQuery):
    """Query of a page of the audit trail."""

    limit: Annotated[WholeNumber, Field(description=f"Maximum number of events, up to {_MAX_PAGE}.")] = 100


class LastEventId(Query):
    """Header that an `EventSource` sends when it reconnects."""

    after: WholeNumber


class Actor(Document):
    """The person or key that caused an event."""

    kind: ActorKind
    id: str
    name: str
    is_operator: bool


class Event(Document):
    """An event of the audit trail."""

    cursor: Count
    time: Instant
    type: str
    organization_name: str | None
    token_id: str | None
    node_id: str | None
    cause: str | None
    source: str | None
    detail: dict[str, object]
    actor: Actor | None

    @classmethod
    def of(cls, stored: StoredEvent) -> "Event":
        """Present an event."""
        return cls(
            cursor=stored.cursor,
            time=stored.at,
            type=stored.type,
            organization_name=stored.organization,
            token_id=stored.token_id,
            node_id=stored.node_id,
            cause=stored.cause,
            source=stored.source,
            detail=dict(stored.detail),
            actor=Actor.model_validate(stored.actor) if stored.actor else None,
        )


class Events(Document):
    """A page of the audit trail, oldest first."""

    items: list[Event]
    next_after: Count | None


class EventsApi:
    """Operations on the audit trail.

    A stream reads the catalog page by page after its reader's cursor. Unread events stay in the catalog. A
    reader that accepts no data for 30 s is disconnected, and continues with `Last-Event-ID`.
    """

    tag: ClassVar[str] = "audit trail"

    def __init__(self, events: SqlEventLog) -> None:
        self._events = events
        self._stopping = asyncio.Event()
        self._readers = 0

    async def stop(self, _app: web.Application) -> None:
        """End all streams so that the server can stop. Readers reconnect automatically."""
        self._stopping.set()

    @Endpoint("GET", "/events", "Events after the cursor, oldest first.", errors=(400,))
    async def list_events(self, call: Call[None], query: EventQuery) -> Events:  # noqa: ARG002
        """List the audit trail."""
        limit = min(query.limit, _MAX_PAGE)
        found = await self._events.page(after=query.after or 0, limit=limit, **query.filters())
        next_after = found[-1].cursor if found and len(found) == limit else None
        return Events(items=[Event.of(stored) for stored in found], next_after=next_after)

    @Endpoint("GET", "/events/stream", "An endless stream of server-sent events.", errors=(400,))
    async def stream_events(self, call: Call[None], query: StreamQuery) -> EventSourceResponse:
        """Follow the audit trail."""
        after = query.after
        if last := call.request.headers.get("Last-Event-ID"):
            after = LastEventId.read({"after": last}).after
        if self._readers >= MAX_STREAMS:
            raise web.HTTPServiceUnavailable(text="The event stream has too many readers. Try again later.")
        self._readers += 1
        try:
            if after is None:
                after = await self._events.latest()
            async with open_stream(call.request) as stream:
                with suppress(TimeoutError, CatalogUnavailableError, ConnectionError):
                    await self._send(stream, after, query.filters())
            return stream
        finally:
            self._readers -= 1

    async def _send(self, stream: EventSourceResponse, after: int, filters: Filters) -> None:
        await stream.write(b": the audit trail\n\n")
        while not self._stopping.is_set():
            page = await self._events.page(after=after, limit=_STREAM_PAGE, **filters)
            for stored in page:
                after = stored.cursor
                data = Event.of(stored).model_dump_json()
                await stream.send(data, id=str(after), event=stored.type)
            if len(page) < _STREAM_PAGE:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), _POLL_S)
