"""400 connections that ask for an answer and read nothing of it."""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.server.conftest import Shop, open_shop
from tests.support import images
from tests.support.certificates import SERVER, TestCa
from tests.support.crisper import CrisperServer
from tests.support.honest import HonestClient
from tests.support.images import MIB
from tests.support.upstream import Upstream

pytestmark = pytest.mark.full  # a busy machine distorts latencies

CONNECTIONS = 400
PER_SESSION = 100  # of one node
MANIFEST_BYTES = 4 * MIB - 4096
OBSERVED_S = 4
BETWEEN_S = 0.01  # what is unread is the attack, not the rate of requests


@pytest.fixture(scope="module", params=["plain", "TLS"])
def shop(request: pytest.FixtureRequest, workdir: Path, upstream: Upstream) -> Iterator[Shop]:
    folder = workdir / f"unread-{request.param}"
    certificate = TestCa.create(folder / "ca").issue("server", hosts=["127.0.0.1"], purposes=SERVER)
    layers = [images.Layer.raw(bytes(range(256)) * (64 * MIB // 256))]
    image = images.with_padding(images.build("acme/large-manifest", layers), MANIFEST_BYTES)
    upstream.push(image)
    server = CrisperServer(
        folder / "crisper",
        insecure_registries=[upstream.host],
        env={
            "CRISPER_MAX_MANIFEST_BYTES": str(4 * MIB),
            "CRISPER_NODE_CONNECTIONS": str(CONNECTIONS),
            "CRISPER_COMPRESS": "false",
        },
        tls=certificate if request.param == "TLS" else None,
    )
    with server:
        yield open_shop(server, upstream, image)


def unread(shop: Shop, bearer: str, path: str) -> socket.socket | ssl.SSLSocket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(30)
    client.connect(("127.0.0.1", shop.server.port))
    if shop.server.trust:
        client = shop.server.trust.wrap_socket(client, server_hostname="127.0.0.1")
    head = f"GET /v2/{shop.repository}/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\r\n\r\n"
    client.sendall(head.encode())
    return client


@pytest.mark.parametrize("what", ["manifest", "blob"])
def test_answers_that_are_not_read_take_little_memory_and_no_time(shop: Shop, what: str) -> None:
    digest = max(shop.image.blobs, key=lambda name: len(shop.image.blobs[name]))
    path = "manifests/latest" if what == "manifest" else f"blobs/{digest}"
    config = min(shop.image.blobs, key=lambda name: len(shop.image.blobs[name]))
    node = shop.server.operator.create_node()
    own = str(shop.exchange(shop.mint(node), node).expect(200).json()["token"])
    honest = HonestClient(
        lambda: (shop.get(f"blobs/{config}", own).expect(200), None)[1], shop.server.process.pid
    )
    with honest.observed() as alone:
        time.sleep(OBSERVED_S)
    bearers = [shop.bearer() for _ in range(CONNECTIONS // PER_SESSION)]
    with ExitStack() as stack, honest.observed() as attacked:
        for number in range(CONNECTIONS):
            stack.enter_context(unread(shop, bearers[number % len(bearers)], path))
            time.sleep(BETWEEN_S)
        time.sleep(OBSERVED_S)
    honest.bears(attacked, alone)
