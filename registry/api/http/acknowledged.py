"""Bytes of a response that the client's machine has acknowledged, as the kernel counts them."""

import os
import socket
import struct
import sys
from fcntl import ioctl
from termios import TIOCOUTQ
from types import TracebackType
from typing import Final, Self

from aiohttp import web

_TCP_INFO_BYTES: Final = 128
_GOODBYE_BYTES: Final = 64  # more than the alert and the FIN with which the server answers those of a client
_BYTES_ACKED = struct.Struct("=120xQ")  # tcpi_bytes_acked of struct tcp_info (linux/tcp.h)
_QUEUED = struct.Struct("i")


class AcknowledgedBytes:
    """Counts what a client has received since the object was created.

    Has a duplicate of the connection's socket, because the kernel's counters must be read after a reset, when
    the event loop has closed its own. Without them (a Unix socket, another system than Linux) everything
    counts as received that left the transport's buffer.
    """

    def __init__(self, request: web.Request) -> None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client closed the connection")
        self._transport = transport
        own: socket.socket = transport.get_extra_info("socket")
        self._socket: socket.socket | None = None
        if sys.platform == "linux" and own.family in {socket.AF_INET, socket.AF_INET6}:
            self._socket = socket.socket(fileno=os.dup(own.fileno()))
            self._before = _acknowledged(self._socket)

    def of(self, sent_bytes: int) -> int:
        """Return how many of the bytes that were sent since the creation have been received.

        Heads and the overhead of TLS count as well, so that the result can be too high by less than 1 %. It
        is `sent_bytes` only when nothing is left to be acknowledged.
        """
        if self._socket is None:
            waiting = 0 if self._transport.is_closing() else self._transport.get_write_buffer_size()
            return max(0, sent_bytes - waiting)
        queued: int
        (queued,) = _QUEUED.unpack(ioctl(self._socket, TIOCOUTQ, bytes(_QUEUED.size)))
        if self._transport.is_closing():
            queued = max(0, queued - _GOODBYE_BYTES)
        return max(0, min(sent_bytes - queued, _acknowledged(self._socket) - self._before))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._socket is not None:
            self._socket.close()


def _acknowledged(connection: socket.socket) -> int:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    return int(_BYTES_ACKED.unpack(info)[0]) if len(info) == _TCP_INFO_BYTES else 0
