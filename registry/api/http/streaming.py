"""Blob responses: decrypted and metered while they are sent, and aborted if the client stops reading."""

import asyncio
import os
import socket
from collections.abc import Mapping
from contextlib import aclosing, suppress
from http import HTTPStatus

import structlog
from aiohttp import HttpVersion11, hdrs, web

from auth.delivery import REPORT_EVERY_S, MeteredDelivery
from auth.errors import LedgerUnavailableError, RefusedError
from registry.api.http.socket_sender import SocketSender
from registry.observe import Metrics
from registry.pull.ranges import ByteRange
from storage.errors import BlobDamagedError, StorageError
from storage.read.reader import BlobReader

_WATCHED_BYTES = 64 << 10  # smaller bodies fit into the transport's buffer: no wait for the client
_THREAD_BYTES = 4 << 20  # above this size, a worker thread is faster
_log = structlog.get_logger(__name__)


class BlobStreamer:
    """Writes blobs to clients.

    Args:
        sender: Sends large bodies on plain connections.
        stall_s: The connection is closed if a client reads nothing for this long.
    """

    def __init__(self, sender: SocketSender, metrics: Metrics, *, stall_s: float) -> None:
        self._sender = sender
        self._metrics = metrics
        self._stall_s = stall_s

    async def send(
        self,
        request: web.Request,
        reader: BlobReader,
        delivery: MeteredDelivery,
        part: ByteRange | None,
        headers: Mapping[str, str],
    ) -> web.StreamResponse:
        """Respond 200 with the blob, or 206 with a part of it, and settle the delivery.

        Raises:
            BlobDamagedError: The connection is already closed; the caller reports the damaged blob.

        After the head was sent, a failure closes the connection: clients detect a short body by its
        Content-Length, but would read an error document inside it as content.
        """
        response = web.StreamResponse(headers=headers)
        span = part or ByteRange(0, reader.size_bytes)
        response.content_length = span.length
        if part:
            response.set_status(HTTPStatus.PARTIAL_CONTENT)
            response.headers[hdrs.CONTENT_RANGE] = part.content_range(reader.size_bytes)
        try:
            await response.prepare(request)
            with self._metrics.responses.track_inprogress():
                await self._body(request, response, reader, delivery, span)
            await response.write_eof()
        except (StorageError, RefusedError, LedgerUnavailableError) as error:
            _log.error(
                "blob.cut", digest=str(reader.digest), error=type(error).__name__, at=delivery.bytes_sent
            )
            _abort(request)
            if isinstance(error, BlobDamagedError):
                raise
        finally:
            self._metrics.delivered.inc(delivery.bytes_sent)
            await asyncio.shield(delivery.finish())
        return response

    async def _body(
        self,
        request: web.Request,
        response: web.StreamResponse,
        reader: BlobReader,
        delivery: MeteredDelivery,
        span: ByteRange,
    ) -> None:
        if span.length <= _WATCHED_BYTES:
            await self._by_transport(response, reader, delivery, span)
            return
        watch = asyncio.create_task(_watch(request, delivery, self._stall_s))
        try:
            if span.length <= _THREAD_BYTES or request.secure or request.version < HttpVersion11:
                await self._by_transport(response, reader, delivery, span)
            else:
                await self._by_thread(request, response, reader, delivery, span)
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch

    @staticmethod
    async def _by_transport(
        response: web.StreamResponse, reader: BlobReader, delivery: MeteredDelivery, span: ByteRange
    ) -> None:
        """Send through the transport: for small bodies and TLS."""
        async with aclosing(
            reader.stream(span.start + delivery.bytes_sent, span.length - delivery.bytes_sent)
        ) as chunks:
            async for chunk in chunks:
                await response.write(chunk)
                if delivery.sent(span.start + delivery.bytes_sent, len(chunk)):
                    await delivery.report()

    async def _by_thread(
        self,
        request: web.Request,
        response: web.StreamResponse,
        reader: BlobReader,
        delivery: MeteredDelivery,
        span: ByteRange,
    ) -> None:
        """Send the first piece with the head, and the rest from the thread that decrypts it."""
        if request.transport is not None:
            request.transport.set_write_buffer_limits(high=0)  # drain() now waits until the buffer is empty
        first = ByteRange(span.start, reader.piece_end(span.start, 1) - span.start)
        await self._by_transport(response, reader, delivery, first)
        rest = ByteRange(span.start + first.length, span.length - first.length)
        async with self._sender.stream(request, reader, rest) as push:
            while delivery.bytes_sent < span.length:
                if not delivery.allowance:
                    await delivery.report()
                sent_bytes = await push.send(delivery.allowance)
                delivery.sent(span.start + delivery.bytes_sent, sent_bytes)


async def _watch(request: web.Request, delivery: MeteredDelivery, stall_s: float) -> None:
    """Keep the session open while a slow client reads; abort if it is revoked or the client stops reading."""
    seen, since = _accepted_bytes(request, delivery), 0.0
    every_s = min(REPORT_EVERY_S, stall_s)
    while since < stall_s:
        await asyncio.sleep(every_s)
        accepted = _accepted_bytes(request, delivery)
        since = 0.0 if accepted != seen else since + every_s
        seen = accepted
        try:
            await delivery.report()
        except (RefusedError, LedgerUnavailableError):
            break
    _abort(request)


def _accepted_bytes(request: web.Request, delivery: MeteredDelivery) -> int:
    """Return how many bytes the kernel accepted; rises while a slow client reads a chunk."""
    transport = request.transport
    return delivery.bytes_sent - (transport.get_write_buffer_size() if transport else 0)


def _abort(request: web.Request) -> None:
    """Close the connection, also for a thread that has a duplicate of its socket."""
    transport = request.transport
    if transport is None:
        return
    own = transport.get_extra_info("socket")
    with suppress(OSError), socket.socket(fileno=os.dup(own.fileno())) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)
    transport.abort()
