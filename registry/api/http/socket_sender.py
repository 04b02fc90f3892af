"""Blobs to plain TCP sockets: one worker thread reads, decrypts and sends, while the event loop waits.

The usual way hands every chunk from a worker thread to the loop, which hands it to the transport, which
copies what the socket does not take. Here the thread that decrypts a piece also gives it to the kernel,
and stops when the kernel takes no more; the loop keeps the connection, waits until there is room, and
sends the thread on. What was decrypted and not taken is dropped and decrypted again, so memory is
bounded by threads, not by connections (docs/adr/0002-send-large-bodies-from-a-worker-thread.md).
"""

import asyncio
import os
import select
import socket
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from registry.pull.ranges import ByteRange
from storage.read.reader import BlobReader

PIECE_BYTES: Final = 2 << 20
LEAST_PIECE_BYTES: Final = 64 << 10
PUSH_BYTES: Final = 32 << 20
PATIENCE_MS: Final = 4  # a quick client makes room within it; a slow one is left to the loop

_THREADS = min(16, 2 + 2 * (os.cpu_count() or 1))


class _Buffers(threading.local):
    """One piece's plaintext per thread, used again and again."""

    def __init__(self) -> None:
        self._piece = bytearray(PIECE_BYTES)

    def view(self, size: int) -> memoryview:
        if len(self._piece) < size:  # a container with larger segments or frames
            self._piece = bytearray(size)
        return memoryview(self._piece)[:size]


class SocketSender:
    """Threads that send. One per process; closed at its end."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="send")
        self._buffers = _Buffers()

    def close(self) -> None:
        """End the threads; only after every response has ended."""
        self._executor.shutdown(wait=True)

    @asynccontextmanager
    async def stream(
        self, request: web.Request, reader: BlobReader, span: ByteRange
    ) -> AsyncIterator["SocketBody"]:
        """Take over a connection's socket for a body; its head must have left the transport.

        Closing ends a push that is running and gives the socket back.
        """
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        while transport.get_write_buffer_size():  # noqa: ASYNC110 (the transport has no event for "empty")
            await asyncio.sleep(0)
        own = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        push = SocketBody(own, reader, span, self._executor, self._buffers)
        try:
            yield push
        finally:
            await push.aclose()


class SocketBody:
    """A body on its way.

    Args:
        own: A duplicate of the connection's socket, not blocking.
    """

    def __init__(
        self,
        own: socket.socket,
        reader: BlobReader,
        span: ByteRange,
        executor: ThreadPoolExecutor,
        buffers: _Buffers,
    ) -> None:
        self._socket = own
        self._reader = reader
        self._position = span.start
        self._end = span.start + span.length
        self._executor = executor
        self._buffers = buffers
        self._piece_bytes = PIECE_BYTES
        self._stopping = False
        self._running: asyncio.Future[bool] | None = None

    async def send(self, most_bytes: int) -> int:
        """Send up to `most_bytes`, as far as the socket takes them; return how many it took.

        Waits for room first when the last call found none.

        Raises:
            BlobDamagedError: The next piece is damaged; nothing of it was sent.
            ConnectionError: The client is gone.
        """
        start = self._position
        limit = min(self._end, start + min(most_bytes, PUSH_BYTES))
        loop = asyncio.get_running_loop()
        self._running = loop.run_in_executor(self._executor, self._push, limit)
        full = await asyncio.shield(self._running)
        if full:
            await self._room()
        return self._position - start

    async def aclose(self) -> None:
        """Wait for the thread to let go, and close the duplicate."""
        self._stopping = True
        if self._running is not None and not self._running.done():
            await asyncio.wait([self._running])
        self._socket.close()

    def _push(self, limit: int) -> bool:
        """Send until `limit`; True when the socket is full before it. Runs in a worker thread.

        Pieces are about as large as what the socket takes at a time, so that little is decrypted twice.
        """
        while self._position < limit and not self._stopping:
            start = self._position
            end = min(limit, self._reader.piece_end(start, self._piece_bytes))
            piece = self._buffers.view(end - start)
            self._reader.read_into(start, piece)
            while piece and not self._stopping:
                try:
                    taken = self._socket.send(piece)
                except BlockingIOError:
                    if not self._makes_room():
                        self._piece_bytes = max(LEAST_PIECE_BYTES, self._position - start)
                        return True
                else:
                    self._position += taken
                    piece = piece[taken:]
            self._piece_bytes = min(PIECE_BYTES, 2 * self._piece_bytes)
        return False

    def _makes_room(self) -> bool:
        poller = select.poll()
        poller.register(self._socket, select.POLLOUT)
        return bool(poller.poll(PATIENCE_MS))

    async def _room(self) -> None:
        loop, room = asyncio.get_running_loop(), asyncio.Event()
        loop.add_writer(self._socket.fileno(), room.set)
        try:
            await room.wait()
        finally:
            loop.remove_writer(self._socket.fileno())
