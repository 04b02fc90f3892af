"""400 connections that ask for an answer and read nothing of it."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.server.conftest import Shop, open_shop
from tests.support import images
from tests.support.certificates import CertificateFiles
from tests.support.crisper import CrisperServer
from tests.support.honest_client import Ask, Plan
from tests.support.images import MIB
from tests.support.upstream import Upstream
from tests.support.withstanding import running, withstand

pytestmark = pytest.mark.full  # a busy machine distorts latencies

CONNECTIONS = 400
PER_SESSION = 100  # of one node
MANIFEST_BYTES = 4 * MIB - 4096
OBSERVED_S = 10
BETWEEN_S = 0.01  # what is unread is the attack, not the rate of requests


@pytest.fixture(scope="module", params=["plain", "TLS"])
def shop(
    request: pytest.FixtureRequest, certificate: CertificateFiles, workdir: Path, upstream: Upstream
) -> Iterator[Shop]:
    folder = workdir / f"unread-{request.param}"
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


@contextlib.contextmanager
def reading_nothing(shop: Shop, path: str, opened: list[socket.socket]) -> Iterator[None]:
    """Ask for answers in a thread, and close the connections at the end."""
    ended, bearers = threading.Event(), [shop.bearer() for _ in range(CONNECTIONS // PER_SESSION)]
    opened.clear()

    def ask() -> None:
        while len(opened) < CONNECTIONS and not ended.wait(BETWEEN_S):
            opened.append(unread(shop, bearers[len(opened) % len(bearers)], path))

    try:
        with running(ask, ended):
            yield
    finally:
        for client in opened:
            client.close()


@pytest.mark.parametrize("what", ["manifest", "blob"])
def test_answers_that_are_not_read_take_little_memory_and_no_time(
    shop: Shop, certificate: CertificateFiles, what: str
) -> None:
    by_size = sorted(shop.image.blobs, key=lambda name: len(shop.image.blobs[name]))
    path = "manifests/latest" if what == "manifest" else f"blobs/{by_size[-1]}"
    node = shop.server.operator.create_node()
    own = str(shop.exchange(shop.mint(node), node).expect(200).json()["token"])
    ask = Ask(f"/v2/{shop.repository}/blobs/{by_size[0]}", {"Authorization": f"Bearer {own}"})
    ca_file = str(certificate.ca) if shop.server.trust else None
    opened: list[socket.socket] = []
    withstand(
        f"unread: {what}",
        lambda: reading_nothing(shop, path, opened),
        Plan(shop.server.port, OBSERVED_S, [ask], ca_file=ca_file),
        shop.server.process.pid,
        lambda: len(opened),
    )
    assert len(opened) == CONNECTIONS
