"""Seeing the last requests of a process out, so that a restart loses none (docs/adr/0031)."""

import asyncio
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

GRACE_S: Final = 1.0  # for connections that were accepted and have not spoken yet, and for idle ones
RETIRE_S: Final = 3600.0
_LOOK_S = 0.05


class Drain:
    """Counts running requests, and tells clients on their last response that the connection ends.

    Args:
        app: The root application, before it is set up.
    """

    def __init__(self, app: web.Application) -> None:
        self._running = 0
        self._ending = False
        app.middlewares.insert(0, self._counting())
        app.on_response_prepare.append(self._say_last)

    async def run(self, server: web.Server, *, patient: bool, hurry: asyncio.Event) -> None:
        """Wait for connections to speak their last; only once nothing is accepted any more.

        Args:
            server: Whose connections they are.
            patient: Whether running responses may take up to an hour: somebody else has taken over.
            hurry: Ends the patience.
        """
        self._ending = True
        loop = asyncio.get_running_loop()
        quiet, end = loop.time() + GRACE_S, loop.time() + (RETIRE_S if patient else 0.0)
        while server.connections and loop.time() < quiet:  # noqa: ASYNC110 (connections have no event)
            await asyncio.sleep(_LOOK_S)
        while self._running and loop.time() < end and not hurry.is_set():  # noqa: ASYNC110 (three conditions)
            await asyncio.sleep(_LOOK_S)

    def _counting(self) -> Middleware:
        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._running += 1
            try:
                return await handler(request)
            finally:
                self._running -= 1

        return count

    async def _say_last(self, _request: web.Request, response: web.StreamResponse) -> None:
        if self._ending:
            response.force_close()
            response.headers[hdrs.CONNECTION] = "close"
