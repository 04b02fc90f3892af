"""Bodies that leave from the thread that decrypts them (docs/adr/0002)."""

import contextlib
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPConnection

import psutil
import pytest

from tests.integration.server.conftest import Shop, open_shop
from tests.support import images
from tests.support.crisper import CrisperServer, Node, PullToken
from tests.support.encrypted import KeyPair
from tests.support.images import MIB
from tests.support.processes import wait_until
from tests.support.upstream import Upstream

SIZE = 24 * MIB + 12_345


@pytest.fixture(scope="module")
def large() -> images.Image:
    return images.build("acme/large", [images.Layer.raw(os.urandom(SIZE))])


@dataclass(frozen=True)
class Big(Shop):
    """A shop with one large layer, which it delivers as plaintext or as ciphertext."""

    encryption: str

    def mint(self, node: Node | None = None, ttl_s: int | None = None) -> PullToken:
        operator, node = self.server.operator, node or self.node
        return operator.mint(self.organization, self.group, node, ttl_s=ttl_s, encryption=self.encryption)

    @cached_property
    def digest(self) -> str:
        """Digest of what is sent."""
        manifest = self.get("manifests/latest", self.bearer()).expect(200).json()
        return str(manifest["layers"][0]["digest"])

    @cached_property
    def content(self) -> bytes:
        """What is sent: the layer, or the stored object of its length."""
        if self.encryption == "none":
            return self.image.blobs[self.digest]
        objects = (self.server.data_dir / "blobs" / "objects").glob("*/*")
        (stored,) = [path for path in objects if path.stat().st_size == SIZE]
        return stored.read_bytes()


@pytest.fixture(scope="module")
def server_of_large(
    tmp_path_factory: pytest.TempPathFactory, upstream: Upstream, large: images.Image
) -> Iterator[Shop]:
    upstream.push(large)
    folder = tmp_path_factory.mktemp("large")
    with CrisperServer(folder / "crisper", insecure_registries=[upstream.host]) as server:
        yield open_shop(server, upstream, large)


@pytest.fixture(scope="module", params=["none", "required"], ids=["plaintext", "ciphertext"])
def big(request: pytest.FixtureRequest, server_of_large: Shop) -> Big:
    shop = server_of_large
    node = shop.server.operator.create_node(encryption_key=KeyPair.p256().public, runtime="containerd")
    return Big(shop.server, shop.organization, node, shop.group, shop.image, request.param)


@contextlib.contextmanager
def raw_get(shop: Big, bearer: str, receive_buffer: int = 64 << 10) -> Iterator[socket.socket]:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(30)
        client.connect(("127.0.0.1", shop.server.port))
        client.sendall(
            f"GET /v2/{shop.repository}/blobs/{shop.digest} HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {bearer}\r\nConnection: close\r\n\r\n".encode()
        )
        yield client


def body_of(client: socket.socket) -> bytes:
    received = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while chunk := client.recv(1 << 20):
            received += chunk
    return bytes(received).partition(b"\r\n\r\n")[2]


def test_one_connection_carries_body_after_body_whole_and_in_parts(big: Big) -> None:
    bearer, content = big.bearer(), big.content
    connection = HTTPConnection("127.0.0.1", big.server.port, timeout=30)
    path = f"/v2/{big.repository}/blobs/{big.digest}"
    for asked, expected in (
        (None, content),
        ("bytes=1-9000000", content[1:9_000_001]),
        ("bytes=262103-17262103", content[262_103:17_262_104]),
        ("bytes=5000000-", content[5_000_000:]),
    ):
        headers = {"Authorization": f"Bearer {bearer}"} | ({"Range": asked} if asked else {})
        connection.request("GET", path, headers=headers)
        socket_before = connection.sock
        answer = connection.getresponse()
        assert answer.read() == expected
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b'{"status": "alive"}'
        assert connection.sock is socket_before
    connection.close()


def test_many_readers_at_once_each_get_every_byte(big: Big) -> None:
    wanted, digests = hashlib.sha256(big.content).hexdigest(), []

    def pull() -> None:
        with raw_get(big, big.bearer()) as client:
            digests.append(hashlib.sha256(body_of(client)).hexdigest())

    readers = [threading.Thread(target=pull) for _ in range(12)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
    assert digests == [wanted] * 12


def test_a_slow_reader_gets_every_byte_and_its_progress_is_seen(big: Big) -> None:
    token = big.mint()
    with raw_get(big, big.bearer(token), receive_buffer=32 << 10) as client:
        head = client.recv(100)
        time.sleep(1)  # the socket is full, the thread has gone: the loop waits
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        received = bytearray(head)
        while chunk := client.recv(1 << 20):
            received += chunk
    assert bytes(received).partition(b"\r\n\r\n")[2] == big.content

    def delivered() -> int:
        shown = big.server.operator.call("GET", f"/pull-tokens/{token.token_id}").expect(200).json()
        return int(shown["session"]["bytes_delivered"])

    wait_until(lambda: delivered() == SIZE, timeout_s=5, what="every byte is counted")


def test_clients_that_go_away_leave_nothing_behind(big: Big) -> None:
    server = psutil.Process(big.server.process.pid)
    with raw_get(big, big.bearer()) as client:
        body_of(client)
    before = server.num_fds()
    for _ in range(20):
        with raw_get(big, big.bearer(), receive_buffer=16 << 10) as client:
            client.recv(10_000)
    wait_until(lambda: server.num_fds() <= before, timeout_s=15, what="their sockets and files are closed")
    assert big.get(f"blobs/{big.digest}", big.bearer()).body == big.content


def test_damage_midway_cuts_the_connection_and_quarantines_the_blob(server_of_large: Shop) -> None:
    shop = server_of_large
    big = Big(shop.server, shop.organization, shop.node, shop.group, shop.image, "none")
    containers = [path for path in big.server.data_dir.rglob("blobs/**/*") if path.is_file()]
    container = max(containers, key=lambda path: path.stat().st_size)
    original = container.read_bytes()
    with container.open("r+b") as file:
        file.seek(15 * MIB)
        file.write(bytes([original[15 * MIB] ^ 1]))
    with raw_get(big, big.bearer()) as client:
        received = body_of(client)
    assert 0 < len(received) <= 15 * MIB  # the damaged byte is the next
    assert received == big.content[: len(received)]
    (event,) = big.server.operator.events(type="blob.damaged")
    assert event["organization_name"] == big.organization.name
    assert big.get(f"blobs/{big.digest}", big.bearer()).status >= 500
