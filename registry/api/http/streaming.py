"""Blob responses: decrypted and metered while they are sent, and aborted if the client stops reading."""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, aclosing, suppress
from http import HTTPStatus

import structlog
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.http_writer import StreamWriter

from auth.delivery import REPORT_EVERY_S, MeteredDelivery
from auth.errors import LedgerUnavailableError, RefusedError
from registry.api.http.acknowledged import AcknowledgedBytes
from registry.api.http.multipart import MultipartRanges
from registry.api.http.socket_sender import SocketSender
from registry.observe import Metrics
from registry.pull.ranges import ByteRange, is_open_ended
from storage.errors import BlobDamagedError, StorageError
from storage.read.reader import BlobReader

_WATCHED_BYTES = 64 << 10  # smaller bodies fit into the transport's buffer: no wait for the client
_THREAD_BYTES = 4 << 20  # above this size, a worker thread is faster
_FILE_BYTES = 256 << 10  # likewise for a file that the kernel sends as it is
_DOUBLED_BYTES = 4 << 20
_HANG_UP_S = 0.002
_PIECE_BYTES = 64 << 10
_MOST_PIECE_BYTES = 1 << 20
_PATIENCE_S = 0.02
_LOOK_S = 0.001
_EVERYTHING = 1 << 62
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
        deliveries: Sequence[tuple[ByteRange, MeteredDelivery]],
        headers: Mapping[str, str],
        *,
        turns: AbstractAsyncContextManager[None],
        partial: bool,
    ) -> web.StreamResponse:
        """Respond 200 with the blob, or 206 with its ranges, and settle the deliveries.

        Args:
            deliveries: Ranges, each with its meter; one range without `partial` is the whole blob.
            turns: Held while the server works on a piece; released while it waits for the client.

        Raises:
            BlobDamagedError: The connection is already closed; the caller reports the damaged blob.

        After the head was sent, a failure closes the connection: clients detect a short body by its
        Content-Length, but would read an error document inside it as content.
        """
        body = _Body(request, web.StreamResponse(headers=headers), reader, deliveries, turns)
        multipart = body.describe(partial=partial)
        with ExitStack() as stack:
            try:
                if body.length_bytes > _WATCHED_BYTES:
                    body.measure(stack.enter_context(AcknowledgedBytes(request)))
                await body.prepare()
                with self._metrics.responses.track_inprogress():
                    await self._send_watched(body, multipart)
                await body.response.write_eof()
            except (StorageError, RefusedError, LedgerUnavailableError) as error:
                _log.error(
                    "blob.cut", digest=str(reader.digest), error=type(error).__name__, at=body.bytes_sent
                )
                _abort(request)
                if isinstance(error, BlobDamagedError):
                    raise
            finally:
                for _, delivery in deliveries:
                    self._metrics.delivered.inc(delivery.bytes_delivered)
                    await asyncio.shield(delivery.finish())
        return body.response

    async def _send_watched(self, body: "_Body", multipart: MultipartRanges | None) -> None:
        if body.received is None:
            await self._send(body, multipart)
            return
        watch = asyncio.create_task(body.watch(body.received, self._stall_s))
        try:
            await self._send(body, multipart)
            await body.settle(body.received)
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch

    async def _send(self, body: "_Body", multipart: MultipartRanges | None) -> None:
        if multipart is not None:
            for part, delivery in body.deliveries:
                await body.response.write(multipart.head(part))
                await body.by_transport(delivery, part)
            await body.response.write(multipart.end)
            return
        ((span, delivery),) = body.deliveries
        if body.received is not None and is_open_ended(body.request.headers.get(hdrs.RANGE)):
            span = await body.by_doubling(delivery, span, body.received)
        request = body.request
        least_bytes = _THREAD_BYTES if body.file is None else _FILE_BYTES
        if span.length <= least_bytes or request.secure or request.version < HttpVersion11:
            await body.by_transport(delivery, span)
        else:
            await body.by_thread(self._sender, delivery, span)


class _Body:
    """A body that is being sent."""

    def __init__(
        self,
        request: web.Request,
        response: web.StreamResponse,
        reader: BlobReader,
        deliveries: Sequence[tuple[ByteRange, MeteredDelivery]],
        turns: AbstractAsyncContextManager[None],
    ) -> None:
        self.request = request
        self.response = response
        self.deliveries = deliveries
        self.length_bytes = sum(span.length for span, _ in deliveries)
        self.received: Callable[[int], int] | None = None
        self._reader = reader
        self._turns = turns

    async def prepare(self) -> None:
        """Send the head."""
        writer = await self.response.prepare(self.request)
        if not isinstance(writer, StreamWriter):
            raise ConnectionResetError("the client closed the connection")
        self.writer = writer

    @property
    def file(self) -> int | None:
        """Descriptor of a file with exactly the blob's bytes, if there is one."""
        return self._reader.fileno()

    @property
    def bytes_sent(self) -> int:
        return sum(delivery.bytes_sent for _, delivery in self.deliveries)

    def describe(self, *, partial: bool) -> MultipartRanges | None:
        """Set status and headers. Returns the form of the body if it has several ranges."""
        response, size = self.response, self._reader.size_bytes
        multipart = None
        length = self.length_bytes
        if len(self.deliveries) > 1:
            ranges = [span for span, _ in self.deliveries]
            multipart = MultipartRanges(ranges, size, response.headers[hdrs.CONTENT_TYPE])
            response.headers[hdrs.CONTENT_TYPE] = multipart.type_header
            length = multipart.length_bytes
        elif partial:
            response.headers[hdrs.CONTENT_RANGE] = self.deliveries[0][0].content_range(size)
        if partial:
            response.set_status(HTTPStatus.PARTIAL_CONTENT)
        response.content_length = length
        return multipart

    def measure(self, acknowledged: AcknowledgedBytes) -> None:
        """Charge only what the client receives. A response with several ranges is charged in full."""
        self.received = acknowledged.of
        if len(self.deliveries) == 1:
            self.deliveries[0][1].measure(acknowledged.of)

    async def by_transport(self, delivery: MeteredDelivery, span: ByteRange) -> None:
        """Send through the transport: all that `by_thread` does not send.

        Chunks that are ready are dropped while the client does not read, and are decrypted again afterwards.
        """
        if self.request.transport is not None:
            self.request.transport.set_write_buffer_limits(high=0)  # it holds one piece at most
        position, end = span.start, span.start + span.length
        while position < end:
            async with aclosing(self._reader.stream(position, end - position)) as chunks:
                position, empty = await self._until_full(delivery, chunks, position)
            if empty is not None:
                await empty

    async def _until_full(
        self, delivery: MeteredDelivery, chunks: AsyncGenerator[bytes | memoryview, None], position: int
    ) -> tuple[int, asyncio.Future[None] | None]:
        """Send chunks until the client stops reading.

        Returns:
            The position up to which the blob was sent, and the wait for the client, if it stopped.
        """
        while True:
            async with self._turns:
                chunk = await anext(chunks, None)
            if chunk is None:
                return position, None
            end = position + len(chunk)
            while position < end:
                # What a client that stops may hold: little, and more only for one that has read much.
                size_bytes = max(_PIECE_BYTES, min(_MOST_PIECE_BYTES, delivery.bytes_delivered // 8))
                start = len(chunk) - (end - position)
                piece = chunk[start : start + size_bytes]
                if not self.request.secure:  # TLS encrypts at once; a socket may keep a view, and its chunk
                    piece = bytes(piece)
                due = delivery.sent(position, len(piece))
                position += len(piece)
                await self.writer.write(piece, drain=False)
                if due:
                    await delivery.report()
                if (empty := await self._empty()) is not None:
                    return position, empty

    async def _empty(self) -> asyncio.Future[None] | None:
        """Wait up to 20 ms for an empty buffer. Returns None if it is empty, else a future for it."""
        transport = self.request.transport
        if transport is not None and not transport.is_closing() and not transport.get_write_buffer_size():
            return None
        empty = asyncio.ensure_future(self.writer.drain())
        await asyncio.wait([empty], timeout=_PATIENCE_S)
        if empty.done():
            empty.result()
            return None
        return empty

    async def by_doubling(
        self, delivery: MeteredDelivery, span: ByteRange, received: Callable[[int], int]
    ) -> ByteRange:
        """Send the first 4 MiB in pieces that double in size. Returns the remaining range.

        A client that requests everything up to the end may only want the beginning: containerd reads a chunk
        and hangs up. Waiting for the acknowledgement of each piece keeps the charge below two chunks.
        """
        while span.length and delivery.bytes_sent < _DOUBLED_BYTES:
            piece = ByteRange(span.start, min(span.length, delivery.bytes_sent or _WATCHED_BYTES))
            await self.by_transport(delivery, piece)
            span = ByteRange(span.start + piece.length, span.length - piece.length)
            await self.settle(received)
            await asyncio.sleep(_HANG_UP_S)
            if self.request.transport is None or self.request.transport.is_closing():
                raise ConnectionResetError("the client closed the connection")
        return span

    async def by_thread(self, sender: SocketSender, delivery: MeteredDelivery, span: ByteRange) -> None:
        """Send the rest from the thread that decrypts it; before, the first piece with the head.

        A file that is sent as it is needs no first piece, because nothing of it is read here.
        """
        if self.request.transport is not None:
            self.request.transport.set_write_buffer_limits(high=0)  # drain() now waits until it is empty
        first = ByteRange(span.start, 0)
        if self.file is None:
            first = ByteRange(span.start, self._reader.piece_end(span.start, 1) - span.start)
            await self.by_transport(delivery, first)
        else:
            self.writer.send_headers()
        position, end = first.start + first.length, span.start + span.length
        async with sender.stream(self.request, self._reader, ByteRange(position, end - position)) as push:
            try:
                while position < end:
                    if not delivery.allowance:
                        await delivery.report()
                    async with self._turns:
                        full = await push.send(delivery.allowance)
                    delivery.sent(position, push.position - position)
                    position = push.position
                    if full:
                        await push.room()
            finally:
                await push.aclose()
                delivery.sent(position, push.position - position)  # also what was sent before an error

    async def settle(self, received: Callable[[int], int]) -> None:
        """Wait until the client has received everything, or is gone, so that the charge is right.

        Each pause is an eighth of the time waited so far, so a finished client is noticed soon.
        """
        waited, transport = 0.0, self.request.transport
        while (
            transport is not None
            and not transport.is_closing()
            and self.bytes_sent > received(self.bytes_sent)
        ):
            pause = max(_LOOK_S, waited / 8)
            await asyncio.sleep(pause)
            waited += pause

    async def watch(self, received: Callable[[int], int], stall_s: float) -> None:
        """Keep the session open while a slow client reads; abort if it is revoked or the client stops."""
        seen, since = (self.bytes_sent, received(_EVERYTHING)), 0.0
        every_s = min(REPORT_EVERY_S, stall_s)
        while since < stall_s:
            await asyncio.sleep(every_s)
            now = (self.bytes_sent, received(_EVERYTHING))
            since = 0.0 if now != seen else since + every_s
            seen = now
            try:
                for _, delivery in self.deliveries:
                    await delivery.report()
            except (RefusedError, LedgerUnavailableError):
                break
        _abort(self.request)


def _abort(request: web.Request) -> None:
    """Close the connection, also for a thread that has a duplicate of its socket."""
    transport = request.transport
    if transport is None:
        return
    own = transport.get_extra_info("socket")
    with suppress(OSError), socket.socket(fileno=os.dup(own.fileno())) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)
    transport.abort()
