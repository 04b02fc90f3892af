"""Draining of a process's last requests, so that a restart loses none (docs/adr/0031)."""

import asyncio
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

GRACE_S: Final = 1.0  # for idle connections, and those without a request yet
RETIRE_S: Final = 3600.0
_LOOK_S = 0.05


class Drain:
    """Counts running requests, and sends `Connection: close` in the last responses.

    Args:
        app: Root application, before its set-up.
    """

    def __init__(self, app: web.Application) -> None:
        self._running = 0
        self._ending = False
        app.middlewares.insert(0, self._counting())
        app.on_response_prepare.append(self._say_last)

    async def run(self, server: web.Server, *, patient: bool, hurry: asyncio.Event) -> None:
        """Wait until connections have finished. Call after the process has stopped accepting connections.

        Args:
            server: Server with the connections.
            patient: Whether running responses may take up to an hour, because another process has taken over.
            hurry: Event that ends a patient wait.
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
