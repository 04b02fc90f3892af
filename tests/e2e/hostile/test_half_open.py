"""1,300 connections that never send a whole request, against a server that may have 1,024 descriptors."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.integration.server.conftest import Shop, open_shop
from tests.support.certificates import SERVER, TestCa
from tests.support.crisper import CrisperServer
from tests.support.honest import HonestClient
from tests.support.images import runnable
from tests.support.upstream import Upstream

pytestmark = pytest.mark.full  # a busy machine distorts latencies

CONNECTIONS = 1300
DESCRIPTORS = 1024
OBSERVED_S = 4
SENT = {
    "nothing": b"",
    "half of a TLS record": b"\x16\x03\x01\x02\x00\x01",
}


@pytest.fixture(scope="module")
def shop(workdir: Path, upstream: Upstream) -> Iterator[Shop]:
    folder = workdir / "half-open"
    tls = TestCa.create(folder / "ca").issue("server", hosts=["127.0.0.1"], purposes=SERVER)
    prefix = ("prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}")
    server = CrisperServer(folder / "crisper", insecure_registries=[upstream.host], tls=tls, prefix=prefix)
    with server:
        yield open_shop(server, upstream, runnable())


@pytest.mark.parametrize("addresses", [1, 100], ids=["the honest client's address", "100 addresses"])
@pytest.mark.parametrize("sent", SENT.values(), ids=SENT)
def test_half_open_connections_deny_nobody_service(shop: Shop, sent: bytes, addresses: int) -> None:
    bearer = shop.bearer()
    honest = HonestClient(lambda: shop.get("manifests/latest", bearer).expect(200), shop.server.process.pid)
    with honest.observed() as alone:
        time.sleep(OBSERVED_S)
    with ExitStack() as stack, honest.observed() as attacked:
        for number in range(CONNECTIONS):
            client = stack.enter_context(socket.socket())
            client.settimeout(10)
            if addresses > 1:
                client.bind((f"127.0.1.{1 + number % addresses}", 0))
            client.connect(("127.0.0.1", shop.server.port))
            client.sendall(sent)
            time.sleep(0.002)
        time.sleep(OBSERVED_S)
        assert psutil.Process(shop.server.process.pid).num_fds() < DESCRIPTORS
    honest.bears(attacked, alone)
