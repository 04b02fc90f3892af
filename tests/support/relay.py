"""A TCP relay in threads: each connection to it is one to its target, until either end closes it."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

CHUNK_BYTES = 16 << 10


class Relay:
    """Relays connections to its port to another port of the same address. `close` leaves nothing open.

    Args:
        target_port: Where connections go.
        address: Where it listens, and where the target does.
    """

    def __init__(self, target_port: int, address: str = "127.0.0.1") -> None:
        self._target = (address, target_port)
        self._ends: list[socket.socket] = []
        self._copying: list[threading.Thread] = []
        self.port = 0
        self.come_up()
        self.host = f"{address}:{self.port}"

    def come_up(self) -> None:
        """Listen, on the same port as before."""
        self._listener = socket.create_server((self._target[0], self.port))
        self.port = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def go_down(self) -> None:
        """Break every connection, and refuse new ones."""
        shut(self._listener)
        self._accepting.join(10)
        self._listener.close()
        self.cut_all()

    def admits(self) -> bool:
        """Tell whether a connection that was just accepted is relayed, or closed at once."""
        return True

    def copy(self, source: socket.socket, sink: socket.socket, *, answers: bool) -> None:
        """Copy bytes until one side ends; `answers` when they are the target's."""
        del answers
        while chunk := source.recv(CHUNK_BYTES):
            sink.sendall(chunk)

    def cut_all(self) -> None:
        """Break every connection that is open."""
        for end in self._ends.copy():
            shut(end)

    def close(self) -> None:
        self.go_down()
        for thread in self._copying:
            thread.join(10)
        for end in self._ends:
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                self._ends.append(client)
                if not self.admits():
                    client.close()
                    continue
                try:
                    server = socket.create_connection(self._target, timeout=2)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)
                self._ends.append(server)
                self._start(client, server, answers=False)
                self._start(server, client, answers=True)

    def _start(self, source: socket.socket, sink: socket.socket, *, answers: bool) -> None:
        thread = threading.Thread(target=self._relay, args=(source, sink, answers), daemon=True)
        self._copying.append(thread)
        thread.start()

    def _relay(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:  # noqa: FBT001 (a thread's arguments)
        with suppress(OSError):
            self.copy(source, sink, answers=answers)
        shut(source)
        shut(sink)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def shut(end: socket.socket) -> None:
    """Shut a connection down, which ends every wait on it; its owner still closes it."""
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
