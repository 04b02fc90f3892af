"""HTTP as servers and proxies speak it: odd heads, lengths, encodings and headers of registries.

aio-libs/aiohttp#6772 (headers over 8 KB), nginx and HAProxy before registries that send Content-Length twice,
goharbor/harbor#16075 (Docker-Content-Digest of another document), distribution/distribution#2889 (gzip).
"""

import gzip

from aiohttp import web

from tests.support.distribution import digest_of
from tests.support.quirks.row import HOST, IMAGE, LAYER, Arrange, Quirk, answering, guarded, http, status
from tests.support.quirky_upstream import Answer, QuirkyUpstream, Wire

CHANGED = "a header that contradicts the document shows that something changed one of them"
LINE = "HTTP/1.1 {status} OK"
LENGTH = "Content-Length: {length}"
CONFIG = next(digest for digest in IMAGE.blobs if digest != digest_of(LAYER))


def wired(wire: Wire) -> Arrange:
    return guarded("basic", wire=wire)


def chunked(data: bytes) -> bytes:
    return (
        b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (data[:7], data[7:]) if part) + b"0\r\n\r\n"
    )


def coded(
    *, coding: str = "gzip", encode: bool = True, only: str = "", break_at: int | None = None
) -> Answer:
    """Encode documents and configs, or only say so."""

    async def answer(upstream: QuirkyUpstream, request: web.Request) -> web.StreamResponse | None:
        name = request.path.rsplit("/", 1)[-1]
        response = upstream.usual(request, name)
        wanted = only or (name if name != digest_of(LAYER) else "")
        if response.status != 200 or name != wanted or not isinstance(response.body, bytes):
            return None
        body = gzip.compress(response.body)[:break_at] if encode else response.body
        fields = {"Content-Type": response.headers["Content-Type"], "Content-Encoding": coding}
        return await upstream.send(request, web.Response(body=body, headers=fields))

    return answer


def with_fields(**fields: str) -> Answer:
    """Answer as usual with more header fields."""

    async def answer(upstream: QuirkyUpstream, request: web.Request) -> web.StreamResponse:
        response = upstream.usual(request, request.path.rsplit("/", 1)[-1])
        response.headers.update({name.replace("_", "-"): value for name, value in fields.items()})
        return await upstream.send(request, response)

    return answer


def bomb(upstream: QuirkyUpstream) -> None:
    guarded("")(upstream)
    upstream.tag(b" " * (5 << 20) + IMAGE.root_bytes)
    upstream.answers["1"] = coded()


async def no_head(upstream: QuirkyUpstream, request: web.Request) -> web.StreamResponse | None:
    return await upstream.send(request, web.Response(status=405)) if request.method == "HEAD" else None


def wrong_config(upstream: QuirkyUpstream) -> None:
    guarded("")(upstream)
    upstream.answers[CONFIG] = status(200, "{}" * 9_999)


HEADS = [
    Quirk(name, wired(wire), login=True)
    for name, wire in (
        ("plain HTTP/1.1", http()),
        ("HTTP/1.0 without a length", http("HTTP/1.0 {status} OK", length=None)),
        ("HTTP/1.1 without a length", http(LINE, "Connection: close", length=None)),
        ("no reason phrase", http("HTTP/1.1 {status}")),
        ("a long reason phrase", http(LINE + " x" * 2_000)),
        ("lines that end with LF", http(end="\n")),
        ("Content-Length twice", http(length=f"{LENGTH}\r\n{LENGTH}".replace("\r\n", "\n"))),
        (
            "Content-Length three times, in other letters",
            http(length=f"{LENGTH}\ncontent-length: {{length}}\n{LENGTH} "),
        ),
        ("Content-Length as a list", http(length="Content-Length: {length}, {length}")),
        ("Content-Length beside chunks", http(LINE, "Transfer-Encoding: chunked", body=chunked)),
        ("Content-Length after a sign of blanks", http(length="Content-Length:   {length}  ")),
        ("chunks", http(LINE, "Transfer-Encoding: chunked", length=None, body=chunked)),
        ("chunks called twice", http(LINE, *["Transfer-Encoding: chunked"] * 2, length=None, body=chunked)),
        (
            "chunks with extensions",
            http(
                LINE,
                "Transfer-Encoding: chunked",
                length=None,
                body=lambda data: (
                    b"%x;a=b\r\n%s\r\n0;c\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
                ),
            ),
        ),
        (
            "chunks with a trailer",
            http(
                LINE,
                "Transfer-Encoding: chunked",
                "Trailer: X",
                length=None,
                body=lambda data: chunked(data)[:-2] + b"X: 1\r\n\r\n",
            ),
        ),
        ("a field of 30 KB", http(LINE, "X-Trace: " + "a" * 30_000)),
        ("a policy of 9 KB", http(LINE, "Content-Security-Policy: " + "default-src 'self' " * 500)),
        ("200 cookies", http(LINE, *(f"Set-Cookie: a{number}=b" for number in range(200)))),
        ("240 fields", http(LINE, *(f"X-{number}: b" for number in range(240)))),
        ("a folded field", http(LINE, "X-Folded: a\r\n  b")),
        ("a field in Latin-1", http(LINE, "X-Name: Gr\xfc\xdfe")),
        ("an empty field", http(LINE, "X-Empty:")),
        ("Server and Date twice", http(LINE, *["Server: a", "Date: Mon, 01 Jan 2024 00:00:00 GMT"] * 2)),
        ("Content-Type twice", http(LINE, "Content-Type: application/json")),
        ("an offer of HTTP/2", http(LINE, "Upgrade: h2,h2c", "Connection: Upgrade, close")),
        ("100 before the response", http(before="HTTP/1.1 100 Continue\r\n\r\n")),
        ("103 before the response", http(before="HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")),
        (
            "103 and Content-Length twice",
            http(before="HTTP/1.1 103 Early Hints\r\n\r\n", length=f"{LENGTH}\n{LENGTH}"),
        ),
    )
]
BROKEN = [
    Quirk(name, wired(wire), rf"{HOST} broke off .*")
    for name, wire in (
        ("different lengths", http(length="Content-Length: {length}\nContent-Length: 1")),
        ("a field of 40 KB", http(LINE, "X-Trace: " + "a" * 40_000)),
        ("300 fields", http(LINE, *(f"X-{number}: b" for number in range(300)))),
        ("no HTTP", lambda *_: b"SSH-2.0-OpenSSH_9.2\r\n"),
        ("an empty response", lambda *_: b""),
        ("half a head", lambda *_: b"HTTP/1.1 200 OK\r\nContent-Le"),
    )
]
FIELDS = [
    Quirk(
        name,
        answering("basic", every=with_fields(**fields)),
        fails,
        login=True,
        policy=CHANGED if fails else "",
    )
    for name, fields, fails in (
        ("no digest", {}, ""),
        ("an empty digest", {"Docker_Content_Digest": ""}, ""),
        ("Docker-Content-Digest of another kind", {"Docker_Content_Digest": "blake3:" + "a" * 64}, ""),
        ("a digest in capitals", {"Docker_Content_Digest": IMAGE.root.upper()}, ""),
        ("an ETag", {"ETag": f'"{IMAGE.root}"'}, ""),
        ("a warning", {"Warning": '299 - "deprecated"'}, ""),
        ("no API version", {"Docker_Distribution_Api_Version": ""}, ""),
        (
            "a wrong digest",
            {"Docker_Content_Digest": "sha256:" + "a" * 64},
            rf"{HOST} sent other bytes for the manifest sha256:a+ than its digest says",
        ),
    )
]
ENCODINGS = [
    Quirk("documents in gzip", answering("basic", every=coded()), login=True),
    Quirk("documents in x-gzip", answering("basic", every=coded(coding="X-GZip")), login=True),
    Quirk("a config in gzip", answering(every=coded(only=CONFIG))),
    Quirk("documents that are only called gzip", answering(every=coded(encode=False))),
    Quirk("a layer that is only called gzip", answering(every=coded(encode=False, only=digest_of(LAYER)))),
    Quirk("documents called identity", answering(every=coded(coding="identity", encode=False))),
    Quirk(
        "gzip that is not named",
        answering(tag=coded(coding="identity")),
        r".*cannot be imported: the manifest is not valid JSON",
    ),
    Quirk(
        "gzip that ends early",
        answering(tag=coded(break_at=30)),
        rf"{HOST} sent a manifest in a damaged gzip encoding",
    ),
    Quirk(
        "gzip that unpacks to 5 MiB",
        bomb,
        rf"{HOST} sent a manifest of more than 4 MiB, the limit of this server.*",
        policy="documents are limited to 4 MiB",
    ),
    Quirk(
        "a config of another size",
        wrong_config,
        rf"{HOST} has the blob .* in another size.*",
    ),
]
STATUSES = [
    Quirk(f"{code} for the image", answering(tag=status(code)), rf"{HOST} answers {code} for image .*")
    for code in (204, 400, 405, 406, 418, 451, 501)
] + [
    Quirk("410 for the image", answering(tag=status(410)), rf"{HOST} has no image .*: check its spelling.*"),
    Quirk(
        "410",
        answering(tag=status(410)),
        r"127\.0\.0\.1:\d+ has no image .*: check its spelling.*",
    ),
    Quirk(
        "404 as a page",
        answering(tag=status(404, "<html>")),
        rf"{HOST} has no image .*: check its spelling.*",
    ),
    Quirk(
        "a page for the image",
        answering(tag=status(200, "<html>", Content_Type="text/html")),
        r".* cannot be imported: the manifest is not valid JSON",
    ),
    Quirk("/v2/ is missing", answering(v2=status(404))),
    Quirk("/v2/ is broken", answering(v2=status(500))),
    Quirk("no answers to HEAD", answering(every=no_head)),
]


QUIRKS = [*HEADS, *BROKEN, *FIELDS, *ENCODINGS, *STATUSES]
