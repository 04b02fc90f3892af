"""Bodies in every codec that Python knows, compressed, broken and too large, at each kind of endpoint."""

import contextlib
import encodings
import gzip
import pkgutil
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from encodings.aliases import aliases
from functools import partial
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from tests.integration.server.conftest import Shop
from tests.support.http import Response, request
from tests.support.portal import PortalVisitor

FORM, JSON = "application/x-www-form-urlencoded", "application/json"
LIMIT_BYTES = 64 << 10
MAX_JSON_BYTES = 1 << 20
#: A body whose decoding as punycode takes 0.14 s; others read it, or refuse it, sooner.
COSTLY = b"grant_type=password&x=" + b"a" * 40_000 + b"-" + b"a" * 20_000
ANSWER_S = 2.0
BLOCKED_S = 0.75
UTF_8 = {"utf-8", "utf8"}
#: How a body that was read is refused: by its content, its credential or its form token.
READ = {400, 401, 403}


@dataclass(frozen=True)
class Endpoint:
    """An address that reads a body, and what lets a caller as far as there."""

    path: str
    media_type: str
    headers: Mapping[str, str]
    limit_bytes: int = LIMIT_BYTES


def endpoint(shop: Shop, name: str) -> Endpoint:
    operator = {"Authorization": f"Bearer {shop.server.operator_key}"}
    customer = {"Salad-Api-Key": shop.organization.api_key}
    groups = f"/api/public/organizations/{shop.organization.name}/projects/default/containers"
    if name == "portal form":
        visitor = PortalVisitor.signed_in(shop.server.url, shop.server.operator_key)
        cookies = "; ".join(f"{key}={value}" for key, value in visitor.cookies.items())
        return Endpoint("/groups/new", FORM, {"Cookie": cookies})
    return {
        "token": Endpoint("/token", FORM, {}),
        "sign-in": Endpoint("/sign-in", FORM, {}),
        "certificate": Endpoint(f"/api/v1/nodes/{shop.node.node_id}/certificate", JSON, {}),
        "operator API": Endpoint("/api/v1/organizations", JSON, operator),
        "public API": Endpoint(groups, JSON, customer, MAX_JSON_BYTES),
    }[name]


@pytest.fixture(
    params=["token", "sign-in", "certificate", "operator API", "public API", "portal form"], scope="module"
)
def target(shop: Shop, request: pytest.FixtureRequest) -> Endpoint:
    return endpoint(shop, request.param)


def send(shop: Shop, target: Endpoint, body: bytes, **headers: str) -> tuple[Response, float]:
    """Return the answer and how long it took; underscores in header names are hyphens."""
    sent = {**target.headers, "Content-Type": target.media_type}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    began = time.monotonic()
    answer = request("POST", shop.server.url + target.path, headers=sent, body=body)
    return answer, time.monotonic() - began


@contextlib.contextmanager
def watched(shop: Shop) -> Iterator[Callable[[], float]]:
    """Ask for `/healthz` over one connection all the while; give the longest wait so far."""
    waits, ended = [0.0], threading.Event()
    parts = urlsplit(shop.server.url)

    def watch() -> None:
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=300)
        while not ended.is_set():
            began = time.monotonic()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            waits.append(time.monotonic() - began)
        connection.close()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: max(waits)
    finally:
        ended.set()
        watcher.join()


def codecs_of_python() -> list[str]:
    modules = {module.name for module in pkgutil.iter_modules(encodings.__path__)}
    return sorted(modules | set(aliases) | set(aliases.values()) | UTF_8)


def test_no_codec_of_python_decodes_a_body(shop: Shop, target: Endpoint) -> None:
    names = codecs_of_python()
    assert {"punycode", "idna", "utf_7", "zlib_codec", "unicode_escape"} <= set(names)
    tried = [(name, f"{target.media_type}; charset={name}") for name in names]
    with watched(shop) as longest_wait, ThreadPoolExecutor(2) as threads:
        answers = threads.map(lambda one: send(shop, target, COSTLY, Content_Type=one[1]), tried)
        for (name, _), (answer, took_s) in zip(tried, answers, strict=True):
            answer.expect(*(READ if name in UTF_8 else {415}))
            assert took_s < ANSWER_S, name
    assert longest_wait() < BLOCKED_S


def test_no_way_to_name_a_codec_in_a_content_type_decodes_a_body(shop: Shop, target: Endpoint) -> None:
    kind = target.media_type
    refused = [
        f"{kind};charset=punycode",
        f'{kind}; CharSet = "punycode"',
        f"{kind}; charset*=punycode''utf-8",
        f"{kind}; charset*0*=punycode''utf; charset*1=-8",
        f"{kind}; charset=utf-8; charset=punycode",
        f"{kind}; charset=utf-16",
        f"{kind}; charset=",
        "multipart/form-data; boundary=x",
        "multipart/form-data; boundary=x; charset=punycode",
        "text/plain",
        "(" * 7_000,
        "",
    ]
    with watched(shop) as longest_wait:
        for content_type in refused:
            answer, took_s = send(shop, target, COSTLY, Content_Type=content_type)
            answer.expect(415)
            assert took_s < ANSWER_S
        for ignored in (";a=b" * 1_900, "; a*=punycode''" + "b" * 7_000):
            answer, took_s = send(shop, target, COSTLY, Content_Type=kind + ignored)
            answer.expect(*READ)
            assert took_s < ANSWER_S
    assert longest_wait() < BLOCKED_S


def test_a_compressed_body_is_refused_and_not_tried(shop: Shop, target: Endpoint) -> None:
    bomb = gzip.compress(bytes(64 << 20))[: target.limit_bytes]
    with watched(shop) as longest_wait:
        for coding in ("gzip", "deflate", "br", "zstd", "GZip", "gzip, gzip", "identity, gzip", "x"):
            send(shop, target, bomb, Content_Encoding=coding)[0].expect(415)
        send(shop, target, zlib.compress(b"a=b"), Content_Encoding="deflate")[0].expect(415)
    assert longest_wait() < BLOCKED_S


def test_a_body_that_is_not_utf_8_is_refused(shop: Shop, target: Endpoint) -> None:
    for body in (b"\xff\xfe", "{}".encode("utf-16"), b"a=\xc3", b"\xed\xa0\x80=1", b'{"name":"\xff"}'):
        send(shop, target, body)[0].expect(400)


def test_a_body_over_the_limit_is_refused(shop: Shop, target: Endpoint) -> None:
    send(shop, target, b" " * target.limit_bytes)[0].expect(*READ)
    send(shop, target, b" " * (target.limit_bytes + 1))[0].expect(413)
    with raw(shop, target, f"Content-Length: {1 << 50}") as client:
        assert client.recv(4096).startswith(b"HTTP/1.1 413")
    with raw(shop, target, "Transfer-Encoding: chunked") as client:
        with contextlib.suppress(ConnectionError):
            for _ in range(target.limit_bytes // 4096 + 2):
                client.sendall(b"1000\r\n" + b" " * 4096 + b"\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("framing", "sent"),
    [
        ("Transfer-Encoding: chunked", b"zz\r\nabc\r\n"),
        ("Transfer-Encoding: chunked", b"3\r\nabcde\r\n0\r\n\r\n"),
        ("Transfer-Encoding: gzip, chunked", b"3\r\nabc\r\n0\r\n\r\n"),
        ("Transfer-Encoding: gzip", b"abc"),
        ("Content-Type: text/plain; charset=punycode\r\nContent-Length: 3", b"abc"),
    ],
    ids=["no size", "wrong size", "gzip, chunked", "gzip", "two content types"],
)
def test_a_broken_framing_is_refused(shop: Shop, target: Endpoint, framing: str, sent: bytes) -> None:
    with raw(shop, target, framing, body=sent) as client:
        assert client.recv(4096).startswith((b"HTTP/1.1 400", b"HTTP/1.0 400", b"HTTP/1.1 415"))


def test_a_framing_that_breaks_later_is_refused(shop: Shop) -> None:
    with raw(shop, endpoint(shop, "token"), "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n") as client:
        time.sleep(0.2)  # the handler waits for the body by then
        client.sendall(b"zz\r\n")
        assert client.recv(4096).startswith((b"HTTP/1.1 400", b"HTTP/1.1 408"))


@pytest.mark.parametrize("name", ["token", "sign-in", "portal form"])
def test_a_form_is_bounded_in_fields_and_escaped_in_utf_8(shop: Shop, name: str) -> None:
    post = partial(send, shop, endpoint(shop, name))
    post(b"&".join([b"a=b"] * 64))[0].expect(*READ)
    for body in (b"&".join([b"a=b"] * 65), b"&" * 60_000, b"key=%FF", b"%ed%a0%80=x"):
        answer, took_s = post(body)
        answer.expect(400)
        assert took_s < ANSWER_S


def test_a_basic_password_that_is_no_utf_8_is_refused(shop: Shop) -> None:
    for credential in ("é", "\xff\xfe", "/////w==", "YQ==", "%%%"):
        headers = {"Authorization": f"Basic {credential}"}
        request("GET", f"{shop.server.url}/token?service=crisper", headers=headers).expect(401)


@contextlib.contextmanager
def raw(shop: Shop, target: Endpoint, *lines: str, body: bytes = b"") -> Iterator[socket.socket]:
    """Send a request's head, with `lines` in it, and the start of its body."""
    headers = {"Host": "x", "Content-Type": target.media_type, **target.headers}
    head = [f"POST {target.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), *lines]
    with socket.create_connection(("127.0.0.1", shop.server.port), timeout=30) as client:
        client.sendall("\r\n".join([*head, "", ""]).encode() + body)
        yield client
