"""A slow network between two programs: a TCP relay that lets the answers through at a fixed rate, and
that can be cut."""

import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

CHUNK_BYTES = 16 << 10


class SlowLink:
    """Relays connections at `host` to another port of the same address; all answers share one rate.

    Args:
        target_port: Where connections go.
        bytes_per_s: Rate of the answers, over all connections; may be changed while it runs.
        address: Where it listens, and where the target does.
    """

    def __init__(self, target_port: int, bytes_per_s: int, address: str = "127.0.0.1") -> None:
        self.bytes_per_s = bytes_per_s
        self.delivered_bytes = 0
        self._target = (address, target_port)
        self._answers: dict[socket.socket, int] = {}
        self._turn = threading.Lock()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((address, 0))
        self.port: int = self._listener.getsockname()[1]
        self.host = f"{address}:{self.port}"
        self._start(self._accept)

    def _start(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._open += [client, server]
                self._start(self._relay, client, server, False)
                self._start(self._relay, server, client, True)

    def _relay(self, source: socket.socket, sink: socket.socket, slow: bool) -> None:  # noqa: FBT001
        with suppress(OSError):
            while chunk := source.recv(CHUNK_BYTES):
                if slow:
                    self._wait_for_turn(len(chunk))
                    self._answers[sink] = self._answers.get(sink, 0) + len(chunk)
                sink.sendall(chunk)
        self._answers.pop(sink, None)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self, at_least_bytes: int) -> bool:
        """Cut the connection that has answered most, if that is enough; tell whether one was cut."""
        busiest = max(self._answers.copy().items(), key=lambda pair: pair[1], default=None)
        if busiest is None or busiest[1] < at_least_bytes:
            return False
        self._answers.pop(busiest[0], None)
        with suppress(OSError):
            busiest[0].shutdown(socket.SHUT_RDWR)
        return True

    @property
    def busy(self) -> bool:
        """Whether a connection that has answered something is still open."""
        return bool(self._answers)

    def _wait_for_turn(self, size: int) -> None:
        with self._turn:
            time.sleep(size / self.bytes_per_s)
            self.delivered_bytes += size

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._open:
            end.close()
        for thread in self._threads:
            thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
