"""Steps of the wall clock of a real server and its ledger, while a response is running."""

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.integration.server.conftest import Shop, open_shop
from tests.integration.server.test_hostile_clients import ask, connect, largest
from tests.support import images
from tests.support.crisper import CrisperServer
from tests.support.http import request
from tests.support.images import MIB
from tests.support.stepped_clock import SteppedClock
from tests.support.upstream import Upstream

DAY_S = 86400
REPORTED_BYTES = 3 * MIB  # beyond the first window, so that the ledger is asked before more is sent


@pytest.fixture
def stepping(tmp_path: Path, upstream: Upstream) -> Iterator[tuple[Shop, SteppedClock]]:
    clock = SteppedClock(tmp_path)
    image = images.build("acme/clock", [images.Layer.raw(bytes(range(256)) * (24 * MIB // 256))])
    upstream.push(image)
    server = CrisperServer(tmp_path / "crisper", insecure_registries=[upstream.host], env=clock.environment)
    with server:
        yield open_shop(server, upstream, image), clock


def ledger_time(shop: Shop) -> datetime:
    """Return the time at which the ledger redeems a token."""
    token = shop.mint()
    shop.bearer(token)
    return datetime.fromisoformat(shop.server.operator.token(token)["session"]["redeemed_at"])


@pytest.mark.parametrize("step_s", [40 * DAY_S, 2 * 3600, -40 * DAY_S])
def test_a_step_of_the_clock_does_not_cut_a_running_response(
    stepping: tuple[Shop, SteppedClock], step_s: int
) -> None:
    shop, clock = stepping
    digest, content = largest(shop)
    with connect(shop, receive_buffer=4096) as client:
        client.sendall(ask(shop, shop.bearer(), f"blobs/{digest}", "1.1", "Connection: close"))
        received = bytearray()
        while len(received) < REPORTED_BYTES:
            received += client.recv(65536)
        clock.step(step_s)
        served = parsedate_to_datetime(request("GET", f"{shop.server.url}/healthz").headers["Date"])
        for stepped in (served, ledger_time(shop)):
            assert abs((stepped - datetime.now(UTC)).total_seconds() - step_s) < 60
        time.sleep(1)  # the ledger removes what has expired
        with contextlib.suppress(ConnectionResetError):
            while chunk := client.recv(1 << 20):
                received += chunk
    assert received.partition(b"\r\n\r\n")[2] == content
