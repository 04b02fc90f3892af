"""Server-sent events (HTML, section 9.2)."""

import asyncio
import json
from typing import Final

from aiohttp import hdrs, web

HEARTBEAT_S: Final = 15.0
WRITE_S: Final = 30.0
SILENT: Final = b":\n\n"

_HEADERS = {
    hdrs.CONTENT_TYPE: "text/event-stream",
    hdrs.CACHE_CONTROL: "no-store",
    "X-Accel-Buffering": "no",  # nginx would hold events back
}


def stream() -> web.StreamResponse:
    """Make the response that events are written to."""
    return web.StreamResponse(headers=_HEADERS)


async def write(response: web.StreamResponse, data: bytes) -> None:
    """Write, or raise TimeoutError: a reader that takes nothing is dropped."""
    async with asyncio.timeout(WRITE_S):
        await response.write(data)


def message(event: str, document: object, cursor: int | None = None) -> bytes:
    """Encode one event; with a cursor a reader comes back behind it (`Last-Event-ID`)."""
    data = json.dumps(document, separators=(",", ":"))
    named = "" if cursor is None else f"id: {cursor}\n"
    return f"{named}event: {event}\ndata: {data}\n\n".encode()
