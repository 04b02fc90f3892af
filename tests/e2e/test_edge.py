"""containerd behind an edge cache, set up by `crisper node enroll --edge`."""

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import images
from tests.support.clients import Ctr
from tests.support.crisper import PullToken
from tests.support.encrypted_site import MIB, SIZE, EncryptedSite
from tests.support.hostile_edge import HostileEdge
from tests.support.processes import free_port, wait_until
from tests.support.slow_link import SlowLink

versions = pytest.mark.parametrize(
    "chunk_bytes", [None, pytest.param(MIB, marks=pytest.mark.full)], ids=["1.6", "2.3"]
)


def pull(ctr: Ctr, token: PullToken) -> None:
    ctr.pull(token.reference, token.username, token.token).check()
    assert ctr.digest(token.reference) == token.digest


@versions
def test_two_machines_cost_the_server_one_image(
    encrypted: EncryptedSite, own_folder: Path, chunk_bytes: int | None
) -> None:
    cache, key = encrypted.edge()
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        stack.enter_context(cache.start(key))
        machines = [encrypted.machine(stack, own_folder / str(n), cache.url, chunk_bytes) for n in range(2)]
        before = encrypted.sent_bytes
        pulls = [pool.submit(pull, ctr, encrypted.mint(node)) for ctr, node in machines]
        for each in pulls:
            each.result(100)
        sent = encrypted.sent_bytes - before
        assert sent <= 1.01 * SIZE, f"{sent / SIZE:.3f} of the image"
        wait_until(lambda: cache.sent_bytes >= 2 * SIZE, timeout_s=10, what="the edge has sent the rest")
        ctr, node = machines[0]
        token = encrypted.mint(node)
        pull(ctr, token)
        assert images.GREETING in ctr.run(token.reference, "cat", "/etc/greeting").check().output


@pytest.mark.full
@versions
def test_an_edge_that_dies_midway_or_is_dead_leaves_it_to_the_server(
    encrypted: EncryptedSite, own_folder: Path, chunk_bytes: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, key = encrypted.edge()
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        stack.enter_context(cache.start(key))
        link = stack.enter_context(SlowLink(cache.port, 10 * MIB))
        url = f"http://localhost:{link.port}"
        ctr, node = encrypted.machine(stack, own_folder, url, chunk_bytes)
        token = encrypted.mint(node)
        pulled = pool.submit(ctr.pull, token.reference, token.username, token.token)
        wait_until(lambda: link.delivered_bytes > SIZE // 2, timeout_s=60, what="half of the image")
        cache.stop()
        first = pulled.result(100)
        if not first.ok:
            with capsys.disabled():
                sys.stdout.write(f" first attempt: {re.sub(r'.*ctr: ', 'ctr: ', first.output[-300:])} ")
            ctr.update(token.reference, token.username, token.token).check()
        assert ctr.digest(token.reference) == token.digest
        another = encrypted.mint(node)
        pull(ctr, another)


@pytest.mark.full
@versions
@pytest.mark.parametrize("mode", ["flip", "cut", "short", "long", "challenge", "500"])
def test_a_hostile_edge_gives_no_wrong_image(
    encrypted: EncryptedSite, own_folder: Path, chunk_bytes: int | None, mode: str
) -> None:
    cache, key = encrypted.edge()
    with ExitStack() as stack:
        stack.enter_context(cache.start(key))
        hostile = stack.enter_context(HostileEdge(cache.url, mode, {}))
        ctr, node = encrypted.machine(stack, own_folder, hostile.url, chunk_bytes)
        token = encrypted.mint(node)
        pulled = ctr.pull(token.reference, token.username, token.token)
        assert hostile.requests
        for shown in {headers["Authorization"] for headers in hostile.requests if "Authorization" in headers}:
            assert encrypted.redeem(token, shown) == 401, "the node's certificate is missing"
        if pulled.ok:
            assert ctr.digest(token.reference) == token.digest
            assert images.GREETING in ctr.run(token.reference, "cat", "/etc/greeting").check().output
        else:
            assert mode in {"flip", "cut", "short", "long"}, pulled.output


@pytest.mark.full
def test_a_dead_edge_costs_no_pull(encrypted: EncryptedSite, own_folder: Path) -> None:
    with ExitStack() as stack:
        ctr, node = encrypted.machine(stack, own_folder, f"http://localhost:{free_port()}", None)
        pull(ctr, encrypted.mint(node))
