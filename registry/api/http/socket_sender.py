"""Sending of blobs on plain TCP sockets from worker threads.

asyncio's transport would receive every chunk from a worker thread through the event loop, and copy the part
that the socket does not accept. Here the thread that decrypts a piece also writes it to the socket until
the send buffer is full. The event loop waits until the socket is writable and starts the thread again.
Ciphertext in a local file is sent by the kernel (`sendfile`), and nothing is decrypted. Bytes that were
decrypted but not sent are dropped and decrypted again, so memory is limited by the number of threads, not of
connections (docs/adr/0002-send-large-bodies-from-a-worker-thread.md).
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
from storage.errors import BlobDamagedError
from storage.read.reader import BlobReader

PIECE_BYTES: Final = 2 << 20
LEAST_PIECE_BYTES: Final = 64 << 10
PUSH_BYTES: Final = 32 << 20
FILE_BYTES: Final = 8 << 20
PATIENCE_MS: Final = 4  # a fast client reads within it; for a slow one, the event loop waits

_THREADS = min(16, 2 + 2 * (os.cpu_count() or 1))


class _Buffers(threading.local):
    """One reusable plaintext buffer per thread."""

    def __init__(self) -> None:
        self._piece = bytearray(PIECE_BYTES)

    def view(self, size: int) -> memoryview:
        if len(self._piece) < size:  # the blob has larger segments or frames
            self._piece = bytearray(size)
        return memoryview(self._piece)[:size]


class SocketSender:
    """Pool of sending threads. One per process; closed when the process stops."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="send")
        self._buffers = _Buffers()

    def close(self) -> None:
        """Stop the threads. Call it after all responses have ended."""
        self._executor.shutdown(wait=True)

    @asynccontextmanager
    async def stream(
        self, request: web.Request, reader: BlobReader, span: ByteRange
    ) -> AsyncIterator["SocketBody"]:
        """Take over a connection's socket for a body, after the transport has sent the head.

        Closing the body stops a running send and returns the socket.
        """
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client closed the connection")
        while transport.get_write_buffer_size():  # noqa: ASYNC110 (the transport has no event for "empty")
            await asyncio.sleep(0)
        own = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        push = SocketBody(own, reader, span, self._executor, self._buffers)
        try:
            yield push
        finally:
            await push.aclose()


class SocketBody:
    """A response body that is being sent.

    Args:
        own: A non-blocking duplicate of the connection's socket.
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

    @property
    def position(self) -> int:
        """Offset in the blob up to which the socket has accepted the body."""
        return self._position

    async def send(self, most_bytes: int) -> bool:
        """Send up to `most_bytes`. Returns True if the socket's buffer was full before: wait for `room`.

        Raises:
            BlobDamagedError: The next piece is damaged; no byte of it was sent.
            ConnectionError: The client closed the connection.
        """
        limit = min(self._end, self._position + min(most_bytes, PUSH_BYTES))
        loop = asyncio.get_running_loop()
        self._running = loop.run_in_executor(self._executor, self._push, limit)
        return await asyncio.shield(self._running)

    async def room(self) -> None:
        """Wait until the socket is writable."""
        loop, room = asyncio.get_running_loop(), asyncio.Event()
        loop.add_writer(self._socket.fileno(), room.set)
        try:
            await room.wait()
        finally:
            loop.remove_writer(self._socket.fileno())

    async def aclose(self) -> None:
        """Wait until the thread has stopped, and close the duplicate. Can be called repeatedly."""
        self._stopping = True
        if self._running is not None and not self._running.done():
            await asyncio.wait([self._running])
        self._socket.close()

    def _push(self, limit: int) -> bool:
        """Send until `limit`, in a worker thread. Returns True if the socket's buffer was full before."""
        source = self._reader.fileno()
        return self._push_plaintext(limit) if source is None else self._push_file(source, limit)

    def _push_file(self, source: int, limit: int) -> bool:
        """Send a stored file as it is: the kernel copies it, and nothing is decrypted."""
        while self._position < limit and not self._stopping:
            size_bytes = min(limit - self._position, FILE_BYTES)
            try:
                sent = os.sendfile(self._socket.fileno(), source, self._position, size_bytes)
            except BlockingIOError:
                if not self._makes_room():
                    return True
                continue
            if not sent:
                raise BlobDamagedError("the stored object is shorter than when it was opened")
            self._position += sent
        return False

    def _push_plaintext(self, limit: int) -> bool:
        """Send decrypted pieces, as `_push`.

        Pieces are about as large as the socket's buffer, so that few bytes are decrypted twice.
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
