"""What a session is charged for: what the client has read, by a real server's own account."""

import socket
import subprocess
from collections.abc import Iterator
from email import message_from_bytes
from typing import Any

import psutil
import pytest

from registry.pull.ranges import MAX_RANGES
from tests.integration.server.conftest import Shop, open_shop
from tests.support import images
from tests.support.certificates import SERVER, TestCa
from tests.support.crisper import CrisperServer, PullToken
from tests.support.images import MIB
from tests.support.processes import wait_until
from tests.support.upstream import Upstream

SIZES = {"by the transport": 3 * MIB, "by a thread": 16 * MIB}
BUFFER_BYTES = 64 << 10  # of the client's kernel, which acknowledges that much unread
UNACKNOWLEDGED_BYTES = 2 * 65536  # the last two segments of loopback, and the head
SLACK_BYTES = 512 << 10  # the kernel doubles the buffer and acknowledges in large segments


@pytest.fixture(scope="module", params=["plain", "TLS"])
def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, upstream: Upstream
) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("charges")
    certificate = TestCa.create(folder / "ca").issue("server", hosts=["127.0.0.1"], purposes=SERVER)
    tls = certificate if request.param == "TLS" else None
    image = images.build(
        "acme/charges", [images.Layer.raw(bytes(range(256)) * (n // 256)) for n in SIZES.values()]
    )
    upstream.push(image)
    with CrisperServer(folder / "crisper", insecure_registries=[upstream.host], tls=tls) as server:
        yield open_shop(server, upstream, image)


def connect(shop: Shop) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    client.settimeout(30)
    client.connect(("127.0.0.1", shop.server.port))
    return shop.server.trust.wrap_socket(client, server_hostname="127.0.0.1") if shop.server.trust else client


def digest_of(shop: Shop, size: int) -> str:
    return next(digest for digest, blob in shop.image.blobs.items() if len(blob) == size)


def settled(shop: Shop, token: PullToken) -> dict[str, Any]:
    """Wait until no response is running, and return the session."""
    server = psutil.Process(shop.server.process.pid)

    def idle() -> bool:
        return not any("/blobs/" in file.path for file in server.open_files())

    wait_until(idle, timeout_s=20, what="the server has closed its blobs")
    return dict(shop.server.operator.token(token)["session"])


def curl(shop: Shop, bearer: str, size: int, *options: str) -> bytes:
    argv = ["curl", "--silent", "--insecure", "--max-time", "60", "-H", f"Authorization: Bearer {bearer}"]
    url = f"{shop.server.url}/v2/{shop.repository}/blobs/{digest_of(shop, size)}"
    return subprocess.run([*argv, *options, url], capture_output=True, check=True).stdout


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("read", [100_000, 700_000, 2 * MIB])
@pytest.mark.parametrize("asked", ["", "Range: bytes=10-\r\n"], ids=["whole", "open range"])
def test_a_reset_response_is_charged_by_what_was_read(shop: Shop, size: int, read: int, asked: str) -> None:
    token = shop.mint()
    bearer = shop.bearer(token)
    with connect(shop) as client:
        client.sendall(
            f"GET /v2/{shop.repository}/blobs/{digest_of(shop, size)} HTTP/1.1\r\nHost: x\r\n{asked}"
            f"Authorization: Bearer {bearer}\r\n\r\n".encode()
        )
        got = 0
        while got < read:
            got += len(client.recv(min(8192, read - got)))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    delivered = settled(shop, token)["bytes_delivered"]
    assert read - UNACKNOWLEDGED_BYTES <= delivered <= read + SLACK_BYTES


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_a_whole_response_is_charged_in_full_and_completes_its_blob(shop: Shop, size: int) -> None:
    token = shop.mint()
    curl(shop, shop.bearer(token), size, "--fail", "--output", "/dev/null")
    session = settled(shop, token)
    assert (session["bytes_delivered"], session["blobs"]["complete"]) == (size, 1)


def test_several_ranges_come_in_one_multipart_body_and_are_charged(shop: Shop) -> None:
    token, size = shop.mint(), 3 * MIB
    content = shop.image.blobs[digest_of(shop, size)]
    said = curl(shop, shop.bearer(token), size, "--include", "--range", "0-9,1048570-1048589,-5")
    head, _, body = said.partition(b"\r\n\r\n")
    headers = message_from_bytes(head.partition(b"\r\n")[2])
    assert head.startswith(b"HTTP/1.1 206")
    assert headers["Content-Length"] == str(len(body))
    assert headers.get_content_type() == "multipart/byteranges"
    first, *parts, last = body.split(f"\r\n--{headers.get_boundary()}".encode())
    assert (first, last) == (b"", b"--\r\n")
    expected = {
        f"bytes 0-9/{size}": content[:10],
        f"bytes 1048570-1048589/{size}": content[1048570:1048590],
        f"bytes {size - 5}-{size - 1}/{size}": content[-5:],
    }
    got = [part.removeprefix(b"\r\n").partition(b"\r\n\r\n") for part in parts]
    assert {message_from_bytes(head)["Content-Range"]: data for head, _, data in got} == expected
    assert settled(shop, token)["bytes_delivered"] == 35


def test_too_many_ranges_are_refused_and_not_charged(shop: Shop) -> None:
    token = shop.mint()
    asked = "Range: bytes=" + ",".join(f"{n}-{n}" for n in range(MAX_RANGES + 1))
    code = ("--output", "/dev/null", "--write-out", "%{http_code}")
    assert curl(shop, shop.bearer(token), 3 * MIB, "-H", asked, *code) == b"416"
    assert settled(shop, token)["bytes_delivered"] == 0


def test_a_manifest_of_more_than_a_mebibyte_is_not_imported(shop: Shop, upstream: Upstream) -> None:
    image = images.with_padding(images.random_layers(1, 1000, "acme/padded"), MIB)
    upstream.push(image)
    customer = shop.server.customer(shop.organization)
    reference = upstream.reference(image)
    name = customer.create_group(reference, username=upstream.username, password=upstream.password)
    state = customer.wait_settled(name)["current_state"]
    assert state["status"] == "failed"
    assert "a manifest of more than 1 MiB, the limit of this server" in state["description"]
