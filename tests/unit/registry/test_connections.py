"""Which connection is closed when there are too many."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from registry.server.connections import Connection, Connections, Worth

Dial = Callable[..., socket.socket]


@pytest.fixture
def dial() -> Iterator[Dial]:
    """Return a function that connects from an address, and gives the server's end."""
    with ExitStack() as stack:
        listener = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))

        def connect(address: str = "127.0.0.1") -> socket.socket:
            client = stack.enter_context(socket.socket())
            client.bind((address, 0))
            client.connect(listener.getsockname())
            accepted, _ = listener.accept()
            return stack.enter_context(accepted)

        yield connect


def is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True


def admitted(connections: Connections, accepted: socket.socket, worth: Worth) -> Connection:
    connection = connections.admit(accepted)
    assert connection is not None
    connections._set(connection, worth)
    return connection


def test_the_least_worthy_and_oldest_is_closed_first(dial: Dial) -> None:
    order = [
        Worth.PROVEN_IDLE,
        Worth.UNPROVEN_BUSY,
        Worth.UNPROVEN_IDLE,
        Worth.UNPROVEN_IDLE,
        Worth.PROVEN_BUSY,
    ]
    sockets = [dial(f"127.0.2.{n + 1}") for n in range(len(order))]
    connections = Connections(len(order), 100)
    for accepted, worth in zip(sockets, order, strict=True):
        admitted(connections, accepted, worth)
    for victim in (2, 3, 1, 0):
        admitted(connections, dial(f"127.0.3.{victim + 1}"), Worth.PROVEN_BUSY)
        assert not is_open(sockets[victim])
        assert len(connections) == len(order)
    assert connections.admit(dial("127.0.4.1")) is None
    assert is_open(sockets[4])


def test_an_address_at_its_limit_closes_its_own(dial: Dial) -> None:
    connections = Connections(10, 2)
    other = dial("127.0.2.2")
    admitted(connections, other, Worth.UNPROVEN_IDLE)
    own = [dial("127.0.2.1") for _ in range(3)]
    for accepted in own:
        admitted(connections, accepted, Worth.UNPROVEN_IDLE)
    assert [is_open(each) for each in (other, *own)] == [True, False, True, True]


def test_removed_connections_make_room(dial: Dial) -> None:
    connections = Connections(2, 0)
    first, second = (admitted(connections, dial(), Worth.PROVEN_BUSY) for _ in range(2))
    assert connections.admit(dial()) is None
    connections.remove(first)
    connections.remove(first)
    assert connections.admit(dial()) is not None
    assert len(connections) == 2
    connections.assign(second, "protocol")
    connections.lost("protocol")
    assert len(connections) == 1
