"""A network that breaks connections after so many bytes."""

import socket
import threading
from collections import deque

from tests.support.relay import CHUNK_BYTES, Relay


class CuttingRelay(Relay):
    """Relays connections at `host` to another port of the same address, and cuts some of them.

    Args:
        target_port: Where connections go.
        cut_after_bytes: Each cuts the next connection that has been answered so much.
    """

    def __init__(self, target_port: int, *cut_after_bytes: int) -> None:
        self.delivered_bytes = 0
        self.cuts = deque(cut_after_bytes)
        self._lock = threading.Lock()
        super().__init__(target_port)

    def copy(self, source: socket.socket, sink: socket.socket, *, answers: bool) -> None:
        if not answers:
            super().copy(source, sink, answers=answers)
            return
        answered = 0
        while chunk := source.recv(CHUNK_BYTES):
            sink.sendall(self.alter(chunk, answered))
            answered += len(chunk)
            with self._lock:
                self.delivered_bytes += len(chunk)
                if self.cuts and answered >= self.cuts[0]:
                    self.cuts.popleft()
                    return

    def alter(self, chunk: bytes, answered: int) -> bytes:
        """Return what is sent instead of a chunk of answers, after `answered` bytes of its connection."""
        del answered
        return chunk
