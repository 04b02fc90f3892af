"""Token realms behind proxies, on other hosts and ports, that redirect, and what they answer.

goharbor/harbor#3114, #3933 and #20028, go-gitea/gitea#34729 (realms without TLS),
NVIDIA/nvidia-container-toolkit#1945 (another realm for a lapsed token), google/go-containerregistry#2193 and
CVE-2020-15157 (realms of strangers).
"""

import gzip
import json

from aiohttp import web

from tests.support.quirks.row import AUTHENTICATE, HOST, PULL, Quirk, answering, guarded, status
from tests.support.quirky_upstream import Answer, QuirkyUpstream

STRANGER = r"127\.0\.0\.1:\d+ wants its credentials sent to {}, which is not known to belong to it.*"
NO_TOKEN = rf"{HOST} answers without a token"


def bearer(realm: str) -> str:
    return f'Bearer realm="{realm}",service="s"'


def token(text: str, code: int = 200, **fields: str) -> Answer:
    """Answer with a body that has `{token}` replaced by a valid token."""

    async def answer(upstream: QuirkyUpstream, request: web.Request) -> web.StreamResponse:
        body = text.replace("{token}", upstream.new_token())
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        return await upstream.send(request, web.Response(status=code, text=body, headers=headers))

    return answer


async def gzipped(upstream: QuirkyUpstream, request: web.Request) -> web.StreamResponse:
    data = gzip.compress(json.dumps({"token": upstream.new_token()}).encode())
    return await upstream.send(request, web.Response(body=data, headers={"Content-Encoding": "gzip"}))


async def needs_scope(upstream: QuirkyUpstream, request: web.Request) -> web.StreamResponse | None:
    """Give tokens only for this repository, to requests that name the service once."""
    scopes = [scope for text in request.query.getall("scope", ()) for scope in text.split()]
    if "repository:app:pull" in scopes and request.query.getall("service", []) == ["s"]:
        return None
    return await upstream.send(request, web.Response(status=400))


def lapsing(upstream: QuirkyUpstream) -> None:
    guarded("bearer", bearer("{scheme}://{host}/token"), admits_anonymous_tokens=True)(upstream)
    upstream.answers["lapsed"] = status(401)
    upstream.answers["*"] = lapse_once


def elsewhere(upstream: QuirkyUpstream) -> None:
    guarded("bearer", bearer("https://{other}/token"))(upstream)
    upstream.other.requires, upstream.other.tokens = "bearer", upstream.tokens


async def lapse_once(upstream: QuirkyUpstream, request: web.Request) -> web.StreamResponse | None:
    if "/blobs/" not in request.path or upstream.used[lapse_once]:
        return None
    upstream.used[lapse_once] += 1
    upstream.tokens.clear()
    challenge = bearer(f"http://{upstream.host}/lapsed") + ',error="invalid_token"'
    return await upstream.send(request, web.Response(status=401, headers={"WWW-Authenticate": challenge}))


PLACES = [
    Quirk(name, guarded("bearer", bearer(realm)), login=True, tls=True)
    for name, realm in (
        ("a realm with TLS", "https://{host}/token"),
        ("a realm without TLS on the registry's port", "http://{host}/token"),
        ("a realm without TLS and port", "http://127.0.0.1/token"),
        ("a realm without TLS on port 80", "http://127.0.0.1:80/token"),
        ("a realm in capitals", "HTTPS://{host}/token"),
        ("a realm with a fragment", "https://{host}/token#x"),
        ("a realm with two slashes", "https://{host}//token"),
    )
]
OTHER_PORTS = [
    Quirk(
        "a realm without TLS on the plain port",
        guarded("bearer", bearer("http://{plain}/token")),
        rf"{HOST} names the token realm http://{HOST}, which has no TLS, and "
        rf"https://{HOST} does not answer: ask its administrator to set "
        rf"the registry's external URL to https://{HOST}",
        AUTHENTICATE,
        login=True,
        tls=True,
        policy="credentials are not sent without TLS",
    ),
    Quirk(
        "the same without credentials",
        guarded("bearer", bearer("http://{plain}/token"), admits_anonymous_tokens=True),
        rf"{HOST} names the token realm http://{HOST}, which has no TLS, and .*",
        AUTHENTICATE,
        tls=True,
        policy="a token is a credential",
    ),
    Quirk("a realm on another port with TLS", elsewhere, login=True, tls=True, shares=True),
    Quirk(
        "a realm on another port without TLS",
        guarded("bearer", bearer("http://{other}/token")),
        STRANGER.format(rf"http://{HOST}"),
        AUTHENTICATE,
        login=True,
    ),
    Quirk(
        "a realm of a stranger",
        guarded("bearer", bearer("https://elsewhere.example/token")),
        STRANGER.format("https://elsewhere.example"),
        AUTHENTICATE,
        login=True,
    ),
    Quirk(
        "a realm of a stranger without TLS",
        guarded("bearer", bearer("http://elsewhere.example/token")),
        STRANGER.format("http://elsewhere.example"),
        AUTHENTICATE,
        login=True,
    ),
    Quirk(
        "an internal realm",
        guarded("bearer", bearer("http://harbor-core/service/token")),
        STRANGER.format("https://harbor-core"),
        AUTHENTICATE,
        login=True,
        tls=True,
    ),
    Quirk(
        "a realm that is a path",
        guarded("bearer", bearer("/token")),
        rf"{HOST} names an invalid token realm \(the URL is not valid\)",
        login=True,
    ),
]
REDIRECTS = [
    Quirk(
        f"a realm that redirects with {code}",
        guarded(
            "bearer", bearer("{scheme}://{host}/moved"), answers={"moved": status(code, Location="/token")}
        ),
        login=True,
    )
    for code in (301, 302, 303, 307, 308)
] + [
    Quirk(
        "a realm that redirects to itself",
        answering("bearer", token=status(302, Location="/token")),
        rf"{HOST} redirects too often",
        login=True,
    ),
    Quirk(
        "a realm that redirects elsewhere",
        answering("bearer", token=status(302, Location="http://{other}/token")),
        rf"{HOST} redirects to http://{HOST} when asked for a token: .*",
        login=True,
    ),
    Quirk(
        "a realm that redirects to plain HTTP",
        answering("bearer", token=status(302, Location="http://{plain}/token")),
        rf"{HOST} redirects to http://{HOST} when asked for a token: .*",
        login=True,
        tls=True,
    ),
]
ANSWERS = [
    Quirk(name, answering("bearer", token=answer), fails, reason, login=True)
    for name, answer, fails, reason in (
        ("access_token", token('{"access_token": "{token}"}'), "", PULL),
        ("both tokens", token('{"token": "{token}", "access_token": "{token}"}'), "", PULL),
        ("an empty token beside access_token", token('{"token": "", "access_token": "{token}"}'), "", PULL),
        (
            "a token of null beside access_token",
            token('{"token": null, "access_token": "{token}"}'),
            "",
            PULL,
        ),
        ("no expiry", token('{"token": "{token}"}'), "", PULL),
        ("an expiry of 0", token('{"token": "{token}", "expires_in": 0}'), "", PULL),
        ("a negative expiry", token('{"token": "{token}", "expires_in": -1}'), "", PULL),
        ("an expiry as text", token('{"token": "{token}", "expires_in": "300"}'), "", PULL),
        ("an expiry of null", token('{"token": "{token}", "expires_in": null}'), "", PULL),
        ("an expiry of years", token('{"token": "{token}", "expires_in": 1e12}'), "", PULL),
        ("a fraction of an expiry", token('{"token": "{token}", "expires_in": 299.5}'), "", PULL),
        ("a token as text", token('{"token": "{token}"}', Content_Type="text/plain"), "", PULL),
        ("a token with 201", token('{"token": "{token}"}', 201), "", PULL),
        ("a token in gzip", gzipped, "", PULL),
        ("a token for a scope and a service", needs_scope, "", PULL),
        ("no token", token("{}"), NO_TOKEN, PULL),
        ("a token of two lines", token('{"token": "a\\nb"}'), NO_TOKEN, PULL),
        ("a page", token("<html>"), NO_TOKEN, PULL),
        ("a token with 204", status(204), NO_TOKEN, PULL),
        (
            "a huge token",
            token('{"token": "' + "x" * 70_000 + '"}'),
            rf"{HOST} sent a token of more than 64 KiB",
            PULL,
        ),
        (
            "a realm that is missing",
            status(404),
            rf"{HOST} answers 404 when asked for a token.*",
            PULL,
        ),
        (
            "a realm that forbids",
            status(403),
            rf"{HOST} refuses these credentials for app.*",
            AUTHENTICATE,
        ),
    )
] + [Quirk("another realm for a lapsed token", lapsing)]

QUIRKS = [*PLACES, *OTHER_PORTS, *REDIRECTS, *ANSWERS]
