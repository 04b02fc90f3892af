"""Server-sent events (HTML, section 9.2) with a write timeout."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import hdrs, web
from aiohttp_sse import EventSourceResponse

HEARTBEAT_S: Final = 15.0
WRITE_S: Final = 30.0


@asynccontextmanager
async def open_stream(request: web.Request) -> AsyncIterator[EventSourceResponse]:
    """Start an event stream. Raises TimeoutError on write: the reader accepted no data for `WRITE_S`."""
    stream = EventSourceResponse(sep="\n", send_timeout=WRITE_S, ping_interval=HEARTBEAT_S)
    stream.headers[hdrs.CACHE_CONTROL] = "no-store"
    await stream.prepare(request)
    async with stream:
        yield stream
