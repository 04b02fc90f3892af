"""A slow network between two programs: a relay that lets the answers through at a fixed rate, and that
can be cut."""

import socket
import threading
import time

from tests.support.relay import CHUNK_BYTES, Relay, shut


class SlowLink(Relay):
    """Relays connections at `host` to another port of the same address; all answers share one rate.

    Args:
        target_port: Where connections go.
        bytes_per_s: Rate of the answers, over all connections; may be changed while it runs.
        address: Where it listens, and where the target does.
    """

    def __init__(self, target_port: int, bytes_per_s: int, address: str = "127.0.0.1") -> None:
        self.bytes_per_s = bytes_per_s
        self.delivered_bytes = 0
        self._answers: dict[socket.socket, int] = {}
        self._turn = threading.Lock()
        super().__init__(target_port, address)

    def copy(self, source: socket.socket, sink: socket.socket, *, answers: bool) -> None:
        if not answers:
            super().copy(source, sink, answers=answers)
            return
        try:
            while chunk := source.recv(CHUNK_BYTES):
                self._wait_for_turn(len(chunk))
                self._answers[sink] = self._answers.get(sink, 0) + len(chunk)
                sink.sendall(chunk)
        finally:
            self._answers.pop(sink, None)

    def cut(self, at_least_bytes: int) -> bool:
        """Cut the connection that has answered most, if that is enough; tell whether one was cut."""
        busiest = max(self._answers.copy().items(), key=lambda pair: pair[1], default=None)
        if busiest is None or busiest[1] < at_least_bytes:
            return False
        self._answers.pop(busiest[0], None)
        shut(busiest[0])
        return True

    @property
    def busy(self) -> bool:
        """Whether a connection that has answered something is still open."""
        return bool(self._answers)

    def _wait_for_turn(self, size: int) -> None:
        with self._turn:
            time.sleep(size / self.bytes_per_s)
            self.delivered_bytes += size
