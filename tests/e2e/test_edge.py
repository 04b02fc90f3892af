"""containerd behind an edge cache, set up by `crisper node enroll --edge`."""

import re
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import images
from tests.support.clients import Ctr
from tests.support.crisper import PullToken
from tests.support.encrypted import KeyPair
from tests.support.encrypted_site import IMAGE, MIB, SIZE, EncryptedSite
from tests.support.hostile_edge import HostileEdge
from tests.support.processes import free_port, run, wait_until
from tests.support.slow_link import SlowLink

versions = pytest.mark.parametrize(
    "chunk_bytes", [None, pytest.param(MIB, marks=pytest.mark.full)], ids=["1.6", "2.3"]
)


def pull(ctr: Ctr, token: PullToken) -> None:
    ctr.pull(token.reference, token.username, token.token).check()
    assert ctr.digest(token.reference) == token.digest


@versions
@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.full)])
@pytest.mark.timeout(600)
def test_many_machines_cost_the_server_one_image(
    encrypted: EncryptedSite, own_folder: Path, chunk_bytes: int | None, count: int
) -> None:
    cache, key = encrypted.edge()
    with ExitStack() as stack, ThreadPoolExecutor(count) as pool:
        stack.enter_context(cache.start(key))
        folders = [own_folder / str(number) for number in range(count)]
        machines = [encrypted.machine(stack, folder, cache.url, chunk_bytes) for folder in folders]
        before = encrypted.sent_bytes
        pulls = [pool.submit(pull, ctr, encrypted.mint(node)) for ctr, node in machines]
        for each in pulls:
            each.result(300)
        sent = encrypted.sent_bytes - before
        assert sent <= 1.01 * SIZE, f"{sent / SIZE:.3f} of the image"
        wait_until(lambda: cache.sent_bytes >= count * SIZE, timeout_s=10, what="the edge has sent the rest")
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


@pytest.mark.full
@pytest.mark.timeout(300)
@pytest.mark.parametrize("alive", [True, False], ids=["alive", "dead"])
def test_a_go_client_is_redirected_and_gets_the_rest_from_the_server(
    encrypted: EncryptedSite, own_folder: Path, *, alive: bool
) -> None:
    cache, key = encrypted.edge(serves=["127.0.0.0/8"])
    keys = KeyPair.p256()
    operator = encrypted.server.operator
    node = operator.create_node(encryption_key=keys.public, runtime="skopeo")
    assert encrypted.server.tls is not None
    trusted = own_folder / "certificates"
    trusted.mkdir()
    shutil.copy(encrypted.server.tls.ca, trusted / "ca.crt")
    with ExitStack() as stack:
        if alive:
            stack.enter_context(cache.start(key))
        time.sleep(2.5)  # until the server has read its edges again
        token = encrypted.mint(node)
        argv = [
            "skopeo",
            "copy",
            f"--src-cert-dir={trusted}",
            f"--src-creds={token.username}:{token.password(node)}",
        ]
        argv += [f"docker://{token.reference}", f"dir:{own_folder / 'copy'}"]
        before = encrypted.sent_bytes
        first = run(argv, timeout_s=100)
        if not first.ok:
            assert not alive, first.output
            run(argv, timeout_s=100).check()
        assert len(list((own_folder / "copy").glob("????????*"))) >= len(IMAGE.layers)
        if alive:
            assert encrypted.sent_bytes - before <= 1.01 * SIZE
            assert cache.sent_bytes >= SIZE
    operator.call("DELETE", f"/edges/{cache.registered}").expect(204)
    time.sleep(2.5)
