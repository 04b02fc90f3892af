"""1,300 connections that never send a whole request, against a server that may have 1,024 descriptors."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.hostile.conftest import CONNECTIONS_PER_S
from tests.integration.server.conftest import Shop, open_shop
from tests.support.certificates import CertificateFiles
from tests.support.crisper import CrisperServer
from tests.support.honest_client import Ask, Plan
from tests.support.images import runnable
from tests.support.upstream import Upstream
from tests.support.withstanding import running, withstand

pytestmark = pytest.mark.full  # a busy machine distorts latencies

CONNECTIONS = 1300
DESCRIPTORS = 1024
OBSERVED_S = 8
HONEST = "127.0.0.1"
SENT = {
    "nothing": b"",
    "half of a TLS record": b"\x16\x03\x01\x02\x00\x01",
}


@pytest.fixture(scope="module")
def shop(certificate: CertificateFiles, workdir: Path, upstream: Upstream) -> Iterator[Shop]:
    folder = workdir / "half-open"
    prefix = ("prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}")
    server = CrisperServer(
        folder / "crisper", insecure_registries=[upstream.host], tls=certificate, prefix=prefix
    )
    with server:
        yield open_shop(server, upstream, runnable())


@contextlib.contextmanager
def half_open(port: int, sent: bytes, addresses: int, opened: list[socket.socket]) -> Iterator[None]:
    """Open connections in a thread, and close them at the end."""
    ended = threading.Event()
    opened.clear()

    def dial() -> None:
        while len(opened) < CONNECTIONS and not ended.wait(1 / CONNECTIONS_PER_S):
            client = socket.socket()
            client.settimeout(10)
            client.bind((f"127.0.1.{1 + len(opened) % addresses}" if addresses > 1 else HONEST, 0))
            opened.append(client)
            client.connect(("127.0.0.1", port))
            client.sendall(sent)

    try:
        with running(dial, ended):
            yield
    finally:
        for client in opened:
            client.close()


@pytest.mark.parametrize("addresses", [1, 100], ids=["the honest client's address", "100 addresses"])
@pytest.mark.parametrize("sent", SENT.values(), ids=SENT)
def test_half_open_connections_deny_nobody_service(
    shop: Shop, certificate: CertificateFiles, sent: bytes, addresses: int
) -> None:
    ask = Ask(f"/v2/{shop.repository}/manifests/latest", {"Authorization": f"Bearer {shop.bearer()}"})
    port, pid, opened = shop.server.port, shop.server.process.pid, list[socket.socket]()
    plan = Plan(port, OBSERVED_S, [ask], source=HONEST, ca_file=str(certificate.ca))
    withstand(
        "half-open connections",
        lambda: half_open(port, sent, addresses, opened),
        plan,
        pid,
        lambda: len(opened),
    )
    assert len(opened) == CONNECTIONS
