"""Sending blobs: decrypted as they go, metered, and given up on when nobody reads."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing, suppress
from http import HTTPStatus

import structlog
from aiohttp import HttpVersion11, hdrs, web

from auth.delivery import REPORT_EVERY_S, Delivery
from auth.errors import LedgerUnavailableError, RefusedError
from registry.api.direct import DirectSender
from registry.observe import Metrics
from registry.pull.ranges import ByteRange
from storage.errors import BlobDamagedError, StorageError
from storage.reading import BlobReader

_STALLED_S = 120.0  # nothing taken for so long: the client is gone
_WATCHED_BYTES = 4 << 20  # less than this leaves before a report could be due
_log = structlog.get_logger(__name__)


class BlobStreamer:
    """Writes blobs to clients.

    Args:
        sender: Sends large bodies on plain connections.
    """

    def __init__(self, sender: DirectSender, metrics: Metrics) -> None:
        self._sender = sender
        self._metrics = metrics

    async def send(
        self,
        request: web.Request,
        reader: BlobReader,
        delivery: Delivery,
        part: ByteRange | None,
        headers: Mapping[str, str],
    ) -> web.StreamResponse:
        """Answer 200 with the blob, or 206 with a part of it, and settle the delivery.

        Raises:
            BlobDamagedError: The connection is cut already; the caller has to tell about the blob.

        Once the head has left, a failure cuts the connection: a body that ends early is told from a
        whole one by its Content-Length, and an error document inside it would be taken for content.
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
        delivery: Delivery,
        span: ByteRange,
    ) -> None:
        if span.length <= _WATCHED_BYTES:
            await self._by_transport(response, reader, delivery, span)
            return
        watch = asyncio.create_task(_watch(request, delivery))
        try:
            if request.secure or request.version < HttpVersion11:
                await self._by_transport(response, reader, delivery, span)
            else:
                await self._by_thread(request, response, reader, delivery, span)
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch

    @staticmethod
    async def _by_transport(
        response: web.StreamResponse, reader: BlobReader, delivery: Delivery, span: ByteRange
    ) -> None:
        """Send through the transport: small bodies, and TLS."""
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
        delivery: Delivery,
        span: ByteRange,
    ) -> None:
        """Send the first piece with the head, the rest from the thread that decrypts it."""
        if request.transport is not None:
            request.transport.set_write_buffer_limits(high=0)  # draining now means empty
        first = ByteRange(span.start, reader.piece_end(span.start, 1) - span.start)
        await self._by_transport(response, reader, delivery, first)
        rest = ByteRange(span.start + first.length, span.length - first.length)
        async with self._sender.stream(request, reader, rest) as push:
            while delivery.bytes_sent < span.length:
                if not delivery.allowance:
                    await delivery.report()
                taken = await push.send(delivery.allowance)
                delivery.sent(span.start + delivery.bytes_sent, taken)


async def _watch(request: web.Request, delivery: Delivery) -> None:
    """Keep the session open while a slow client reads; cut it off when revoked or gone."""
    seen, since = delivery.bytes_sent, 0.0
    while since < _STALLED_S:
        await asyncio.sleep(REPORT_EVERY_S)
        since = 0.0 if delivery.bytes_sent != seen else since + REPORT_EVERY_S
        seen = delivery.bytes_sent
        try:
            await delivery.report()
        except (RefusedError, LedgerUnavailableError):
            break
    _abort(request)


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
