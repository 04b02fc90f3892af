"""The client for the identity provider: what it may reach, and how much it reads."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from registry.config import Settings
from registry.errors import IdentityProviderError
from registry.upstream import identity
from registry.upstream.from_settings import identity_client
from registry.upstream.identity import MAX_DOCUMENT_BYTES, IdentityClient


async def answer(request: web.Request) -> web.StreamResponse:  # noqa: PLR0911 (one for each path)
    """Answer as the path says."""
    match request.path:
        case "/document":
            return web.json_response(
                {"method": request.method, "bearer": request.headers.get("Authorization")}
            )
        case "/large":
            return web.Response(body=b'{"x": "' + b"x" * MAX_DOCUMENT_BYTES + b'"}')
        case "/deep":
            return web.Response(body=b'{"x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}")
        case "/redirect":
            return web.Response(status=302, headers={"Location": "/document"})
        case "/list":
            return web.json_response([1])
        case "/refused":
            return web.json_response({"error": "invalid_grant", "error_description": "s3cret"}, status=400)
        case "/strange":
            return web.json_response({"error": "<script>" * 100}, status=400)
        case _:
            await asyncio.Event().wait()
            raise AssertionError


@pytest.fixture
async def server() -> AsyncIterator[TestServer]:
    app = web.Application()
    app.router.add_route("*", "/{path}", answer)
    server = TestServer(app)
    async with server:
        yield server


@pytest.fixture
async def client(server: TestServer) -> AsyncIterator[IdentityClient]:
    client = identity_client(Settings(oidc_issuer=str(server.make_url("/")).rstrip("/")))
    yield client
    await client.close()


async def test_documents_of_the_issuer_are_read(client: IdentityClient, server: TestServer) -> None:
    url = str(server.make_url("/document"))
    assert await client.get(url, bearer="b") == {"method": "GET", "bearer": "Bearer b"}
    posted = await client.post(url, {"code": "c"}, basic=("id", "s"))
    assert posted == {"method": "POST", "bearer": "Basic aWQ6cw=="}


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("large", "more than 512 KiB"),
        ("deep", "no JSON document"),
        ("redirect", "answered 302"),
        ("list", "no JSON document"),
        ("refused", r"answered 400 \(invalid_grant\)"),
        ("strange", "answered 400$"),
        ("endless", "does not answer"),
    ],
)
async def test_other_answers_are_refused_without_their_text(
    client: IdentityClient, server: TestServer, monkeypatch: pytest.MonkeyPatch, path: str, why: str
) -> None:
    if path == "endless":
        monkeypatch.setattr(identity, "_TOTAL_S", 0.2)
    with pytest.raises(IdentityProviderError, match=why) as refused:
        await client.get(str(server.make_url(f"/{path}")))
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:1/token", "does not use TLS"),
        ("http://id.example.com/token", "does not use TLS"),
        ("https://127.0.0.1:1/token", "does not answer|public"),
        ("https://10.0.0.1/token", "public"),
        ("https://169.254.169.254/latest", "public"),
        ("https://user:password@id.example.com/token", "carries credentials"),
        ("file:///etc/passwd", "not valid"),
        ("x", "not valid"),
    ],
)
async def test_endpoints_elsewhere_follow_the_egress_rules(
    client: IdentityClient, url: str, why: str
) -> None:
    with pytest.raises(IdentityProviderError, match=why) as refused:
        await client.get(url)
    assert "password" not in str(refused.value)


async def test_a_private_issuer_is_reached_directly_unless_there_is_a_proxy() -> None:
    issuer = "https://id.lan:8443/realms/company"
    for proxy, private in ((None, True), ("http://proxy.lan:3128", False)):
        client = identity_client(Settings(oidc_issuer=issuer, egress_proxy=proxy))
        assert ("id.lan", 8443) in client._guard._private or not private
        assert (("id.lan", 8443) in client._guard._private) is private
        assert not client._guard.allows_plain_http("id.lan", 8443)
        await client.close()
