"""Clients that are slow, broken or hostile, against a real server process."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import psutil
import pytest

from tests.integration.server.conftest import Shop, open_shop
from tests.support import images
from tests.support.crisper import CrisperServer
from tests.support.http import request
from tests.support.images import MIB
from tests.support.processes import wait_until
from tests.support.slow_readers import SlowReaders, Target
from tests.support.upstream import Upstream

IDLE_S = 3
STALL_S = 4
TURNS = 2
PARALLEL = 5  # a token's budget is three times its image and some
OPEN = 6
READERS = 100
READERS_PER_TOKEN = 4  # a token's budget is three times its image and some


@pytest.fixture(scope="module")
def wary(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Shop]:
    """A server that gives up soon on idle connections and stalled readers."""
    folder = tmp_path_factory.mktemp("wary")
    env = {
        "CRISPER_IDLE_S": str(IDLE_S),
        "CRISPER_STALL_S": str(STALL_S),
        "CRISPER_NODE_RESPONSES": str(TURNS),
        "CRISPER_NODE_CONNECTIONS": str(OPEN),
    }
    large = images.random_layers(2, 12 * MIB, "acme/wary")  # no response fits into the buffers of the kernel
    upstream.push(large)
    with CrisperServer(folder / "crisper", insecure_registries=[upstream.host], env=env) as server:
        yield open_shop(server, upstream, large)


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("patient")
    env = {"CRISPER_NODE_CONNECTIONS": str(READERS)}
    large = images.build("acme/readers", [images.Layer.raw(bytes(range(256)) * (8 * MIB // 256))])
    upstream.push(large)
    with CrisperServer(folder / "crisper", insecure_registries=[upstream.host], env=env) as server:
        yield open_shop(server, upstream, large)


def largest(shop: Shop) -> tuple[str, bytes]:
    return max(shop.image.blobs.items(), key=lambda item: len(item[1]))


def connect(shop: Shop, receive_buffer: int | None = None) -> socket.socket:
    client = socket.socket()
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(30)
    client.connect(("127.0.0.1", shop.server.port))
    return client


def ask(shop: Shop, bearer: str, path: str, version: str = "1.1", *more: str) -> bytes:
    lines = [f"GET /v2/{shop.repository}/{path} HTTP/{version}", "Host: x", f"Authorization: Bearer {bearer}"]
    return "\r\n".join([*lines, *more, "", ""]).encode()


def everything(client: socket.socket) -> bytes:
    received = bytearray()
    while chunk := client.recv(1 << 20):
        received += chunk
    return bytes(received)


def seconds_until_cut(client: socket.socket, drip: bytes) -> float:
    """Send a byte now and then until the server ends the connection."""
    began = time.monotonic()
    client.settimeout(0.4)
    while time.monotonic() - began < 60:
        try:
            client.send(drip)
            if not client.recv(4096):
                return time.monotonic() - began
        except TimeoutError:
            continue
        except OSError:
            return time.monotonic() - began
    raise AssertionError("not cut within a minute")


def held(shop: Shop) -> int:
    """Count the connections that the server has, and the containers that it reads."""
    server = psutil.Process(shop.server.process.pid)
    connections = [c for c in server.net_connections("tcp") if c.status != psutil.CONN_LISTEN]
    return len(connections) + sum("/blobs/" in file.path for file in server.open_files())


def test_dribbled_heads_and_bodies_are_cut_after_a_bounded_time(wary: Shop) -> None:
    head = b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Slow: "
    body = (
        b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: 5000\r\n\r\ngrant_type="
    )
    kept = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"

    def dribble(start: bytes) -> float:
        with connect(wary) as client:
            client.sendall(start)
            return seconds_until_cut(client, b"x")

    with ThreadPoolExecutor(4) as threads:
        fresh, after_an_answer, silent, form = threads.map(dribble, (head, kept + head, kept, body))
    assert fresh < IDLE_S + 5
    assert after_an_answer < IDLE_S + 5
    assert silent < IDLE_S + 5
    assert form < 10 + 2 + 5


def test_a_client_that_reads_nothing_is_let_go(wary: Shop) -> None:
    digest, content = largest(wary)
    bearer = wary.bearer()
    with connect(wary, receive_buffer=4096) as client:
        client.sendall(ask(wary, bearer, f"blobs/{digest}"))
        assert client.recv(10)
        wait_until(lambda: not held(wary), timeout_s=40, what="its socket and file are closed")
        client.settimeout(5)
        received = bytearray()
        with contextlib.suppress(OSError):
            while chunk := client.recv(1 << 20):
                received += chunk
        assert len(received) < len(content)


def test_a_revoked_reader_that_takes_nothing_is_cut(patient: Shop) -> None:
    digest, content = largest(patient)
    token = patient.mint()
    with connect(patient, receive_buffer=4096) as client:
        client.sendall(ask(patient, patient.bearer(token), f"blobs/{digest}"))
        assert client.recv(10)
        patient.server.operator.revoke(token)
        wait_until(lambda: not held(patient), timeout_s=40, what="its socket and file are closed")
        received = bytearray()
        with contextlib.suppress(OSError):
            while chunk := client.recv(1 << 20):
                received += chunk
        assert len(received) < len(content)


def test_ranges_are_read_in_any_order_while_others_are_unread(wary: Shop) -> None:
    digest, content = largest(wary)
    bearer = wary.bearer()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(wary, receive_buffer=4096)) for _ in range(PARALLEL)]
        for start, client in enumerate(clients):
            ranged = ask(
                wary, bearer, f"blobs/{digest}", "1.1", f"Range: bytes={start}-", "Connection: close"
            )
            client.sendall(ranged)
        for start, client in reversed(list(enumerate(clients))):
            head, _, body = everything(client).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 206")
            assert body == content[start:]


def test_a_node_with_too_many_open_responses_is_refused_and_others_are_not(wary: Shop) -> None:
    digest, content = largest(wary)
    bearer = wary.bearer()
    with contextlib.ExitStack() as stack:
        for _ in range(OPEN):
            client = stack.enter_context(connect(wary, receive_buffer=4096))
            client.sendall(ask(wary, bearer, f"blobs/{digest}"))
            assert client.recv(12) == b"HTTP/1.1 200"
        refused = wary.get(f"blobs/{digest}", bearer).expect(429)
        assert (refused.json()["errors"][0]["code"], refused.headers["Retry-After"]) == (
            "TOOMANYREQUESTS",
            "1",
        )
        other = wary.server.operator.create_node()
        others = wary.exchange(wary.mint(other), other).expect(200).json()["token"]
        assert wary.get(f"blobs/{digest}", others).body == content
    wait_until(lambda: not held(wary), timeout_s=30, what="their sockets and files are closed")
    assert wary.get(f"blobs/{digest}", bearer).body == content


def test_abrupt_closes_in_every_phase_leave_nothing_behind(patient: Shop) -> None:
    digest, content = largest(patient)
    bearer = patient.bearer()
    whole = ask(patient, bearer, f"blobs/{digest}")
    for sent in (b"", whole[:20], whole[:-2], whole):
        for linger in (b"\1\0\0\0\0\0\0\0", b"\0\0\0\0\0\0\0\0"):  # a reset, and a goodbye
            client = connect(patient, receive_buffer=4096)
            client.sendall(sent)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            client.close()
    wait_until(lambda: not held(patient), timeout_s=30, what="their sockets and files are closed")
    assert patient.get(f"blobs/{digest}", bearer).body == content


def test_pipelined_requests_are_answered_in_order(patient: Shop) -> None:
    digest, content = largest(patient)
    bearer = patient.bearer()
    with connect(patient) as client:
        client.sendall(
            ask(patient, bearer, "manifests/latest")
            + ask(patient, bearer, f"blobs/{digest}")
            + ask(patient, bearer, "manifests/v1", "1.1", "Connection: close")
        )
        received = everything(client)
    manifest = patient.image.manifest
    assert received.count(b"HTTP/1.1 200") == 3
    first, last = received.find(manifest), received.rfind(manifest)
    assert first < received.find(content) < last


def test_http_1_0_gets_the_whole_blob_and_the_end_of_the_connection(patient: Shop) -> None:
    digest, content = largest(patient)
    with connect(patient) as client:
        client.sendall(ask(patient, patient.bearer(), f"blobs/{digest}", "1.0"))
        head, _, body = everything(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200")
    assert f"content-length: {len(content)}".encode() in head.lower()
    assert body == content


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /v2/" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer verysecret" + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(500)) + b"\r\n",
        b"verysecret nonsense\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    ],
    ids=["long target", "long field", "many fields", "no request", "bad length"],
)
def test_what_is_too_long_or_no_request_is_a_4xx_and_not_logged(patient: Shop, sent: bytes) -> None:
    with connect(patient) as client:
        client.sendall(sent)
        answer = client.recv(4096)
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer[:100]
    assert b"verysecret" not in patient.server.log.read_bytes()
    assert request("GET", f"{patient.server.url}/healthz").status == 200


def test_a_long_name_is_judged_in_no_time(patient: Shop) -> None:
    began = time.monotonic()
    for path in ("a" * 7900 + "/x", "a/" * 20 + "a" * 7800, "a-" * 3900 + "/manifests"):
        assert request("GET", f"{patient.server.url}/v2/{path}").status in {401, 404}
    assert time.monotonic() - began < 3


def test_a_form_that_is_too_large_is_refused(patient: Shop) -> None:
    connection = HTTPConnection("127.0.0.1", patient.server.port, timeout=20)
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/token", body=b"grant_type=password&password=" + b"a" * 100_000, headers=kind)
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize("rate", [0, 10_000], ids=["idle", "10 kB/s"])
def test_slow_readers_are_held_in_little_memory(patient: Shop, rate: int) -> None:
    digest, _ = largest(patient)
    server = psutil.Process(patient.server.process.pid)
    before = server.memory_info().rss
    bearers = [patient.bearer() for _ in range(READERS // READERS_PER_TOKEN)]
    target = Target(patient.server.port, f"/v2/{patient.repository}/blobs/{digest}", tuple(bearers))
    readers = SlowReaders(target, READERS, rate)
    asyncio.run(readers.hold(8))
    grown = server.memory_info().rss - before
    assert (readers.begun, readers.lost) == (READERS, 0)
    assert grown < 64 * MIB
    assert (readers.received > READERS * rate) == bool(rate)
