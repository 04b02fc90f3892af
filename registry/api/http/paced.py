"""Large bodies that are in memory, sent in pieces, so that a client that does not read holds one piece."""

import asyncio
from typing import Final

from aiohttp import Payload, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_writer import StreamWriter
from aiohttp.typedefs import Handler, Middleware

PIECE_BYTES: Final = 64 << 10
_AT_A_TIME: Final = 8  # pieces between two looks at other work


class PacedBody(Payload):
    """A body that is sent in pieces of `PIECE_BYTES`, and whose connection is closed if the client stalls.

    Many responses can share the bytes. The transport would otherwise keep its own copy of the whole body for
    each connection with TLS.

    """

    _value: bytes

    def __init__(self, body: bytes, pacing: "Pacing") -> None:
        super().__init__(body)
        self._size = len(body)
        self._stall_s = pacing.stall_s
        self._turns = pacing.turns

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the body as text."""
        return self._value.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the pieces."""
        transport = writer.transport if isinstance(writer, StreamWriter) else None
        if transport is not None:
            transport.set_write_buffer_limits(high=0)  # each piece waits until the last has left
        whole = memoryview(self._value)
        try:
            for start in range(0, len(whole), PIECE_BYTES):
                async with self._turns:
                    await writer.write(whole[start : start + PIECE_BYTES], drain=False)  # type: ignore[call-arg]
                    await asyncio.sleep(0)
                async with asyncio.timeout(self._stall_s):
                    await writer.drain()
        except TimeoutError:
            if transport is not None:
                transport.abort()
            raise ConnectionResetError("the client stopped reading") from None


class Pacing:
    """Sends the large responses of a process, a few pieces at a time, in the order of their arrival.

    Args:
        stall_s: The connection is closed if a piece is not accepted within this time.
    """

    def __init__(self, stall_s: float) -> None:
        self.stall_s = stall_s
        self.turns = asyncio.Semaphore(_AT_A_TIME)

    def pace(self, response: web.StreamResponse) -> bool:
        """Have a large body sent in pieces. Returns False if the body is small or already sent."""
        if not isinstance(response, web.Response) or response.prepared:
            return False
        body = response.body
        if not isinstance(body, bytes) or len(body) <= PIECE_BYTES:
            return False
        response.body = PacedBody(body, self)
        return True

    def middleware(self) -> Middleware:
        """Return the middleware that paces every large response."""

        @web.middleware
        async def send(request: web.Request, handler: Handler) -> web.StreamResponse:
            response = await handler(request)
            self.pace(response)
            return response

        return send
