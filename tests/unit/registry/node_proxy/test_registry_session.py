"""What the proxy accepts from its registry, and from servers to which it is redirected."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from auth.secret import Secret
from registry.errors import RegistryRefusedError, RegistryUnreachableError
from registry.node_proxy import registry_session
from registry.node_proxy.bodies import Pace
from registry.node_proxy.registry_session import Registry, RegistrySession
from storage.digest import Digest

BODY = bytes(range(256)) * 400
DIGEST = Digest.of(BODY)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(blob: Handler) -> AsyncIterator[tuple[RegistrySession, list[web.Request]]]:
    """Run a registry whose blobs come from a handler, and open a session there."""
    seen: list[web.Request] = []

    async def token(request: web.Request) -> web.Response:
        seen.append(request)
        return web.json_response({"access_token": f"bearer-{len(seen)}"})

    async def noted(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        return await blob(request)

    app = web.Application()
    app.router.add_get("/token", token)
    app.router.add_get("/v2/acme/app/blobs/{digest}", noted)
    async with TestServer(app) as server:
        url = str(server.make_url("/")).rstrip("/")
        async with Registry.open(url, "node", Secret("s"), ssl.create_default_context) as registry:
            yield RegistrySession(registry, Secret("a.b.c"), "acme/app"), seen


async def read(session: RegistrySession, start: int = 0, length: int = len(BODY)) -> bytes:
    return b"".join([piece async for piece in session.read_range(DIGEST, start, length)])


def part(body: bytes, content_range: str, status: int = 206) -> Handler:
    async def respond(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers={"Content-Range": content_range})

    return respond


async def test_a_range_is_read() -> None:
    size = len(BODY)
    async with serving(part(BODY[10:], f"bytes 10-{size - 1}/{size}")) as (session, seen):
        assert await read(session, 10, size - 10) == BODY[10:]
        assert seen[-1].headers["Range"] == f"bytes=10-{size - 1}"
    async with serving(part(BODY, "", 200)) as (session, _):
        assert await read(session) == BODY


@pytest.mark.parametrize(
    "blob",
    [
        part(BODY, "", 200),
        part(BODY[10:], f"bytes 11-{len(BODY)}/{len(BODY)}"),
        part(BODY[:10], "bytes 10-19/99"),
        part(BODY[10:] + b"x", f"bytes 10-{len(BODY) - 1}/{len(BODY)}"),
        part(b"", "", 206),
    ],
    ids=["whole", "other start", "short", "long", "nothing"],
)
async def test_another_range_is_refused(blob: Handler) -> None:
    async with serving(blob) as (session, _):
        with pytest.raises(RegistryUnreachableError):
            await read(session, 10, len(BODY) - 10)


async def test_a_body_that_ends_early_or_drips_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_session, "PACE", Pace(64 << 10, 0.2))

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(BODY))})
        await response.prepare(request)
        for _ in range(int(request.headers.get("X-Count", "100000"))):
            await response.write(b"x")
        return response

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(BODY))})
        await response.prepare(request)
        await response.write(BODY[:10])
        assert request.transport is not None
        request.transport.abort()
        return response

    for blob in (drip, cut):
        async with serving(blob) as (session, _):
            with pytest.raises(RegistryUnreachableError):
                await read(session)


async def test_an_expired_bearer_is_replaced_once() -> None:
    async def expired(request: web.Request) -> web.Response:
        is_new = request.headers["Authorization"] == "Bearer bearer-3"
        return web.Response(body=BODY) if is_new else web.Response(status=401)

    async def refused(_request: web.Request) -> web.Response:
        return web.Response(status=401)

    async with serving(expired) as (session, _):
        assert await read(session) == BODY
    async with serving(refused) as (session, seen):
        with pytest.raises(RegistryRefusedError):
            await read(session)
        assert len(seen) == 4


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (403, RegistryRefusedError),
        (404, RegistryRefusedError),
        (416, RegistryRefusedError),
        (408, RegistryUnreachableError),
        (429, RegistryUnreachableError),
        (500, RegistryUnreachableError),
        (503, RegistryUnreachableError),
    ],
)
async def test_refusals_are_final_and_failures_are_not(status: int, error: type[Exception]) -> None:
    async with serving(part(b'{"errors":[{"message":"why"}]}', "", status)) as (session, _):
        with pytest.raises(error) as raised:
            await read(session)
    assert error is RegistryUnreachableError or "why" in str(raised.value)


async def test_a_redirect_target_gets_no_credential() -> None:
    given: list[web.Request] = []

    async def elsewhere(request: web.Request) -> web.Response:
        given.append(request)
        return web.Response(body=BODY)

    app = web.Application()
    app.router.add_get("/blob", elsewhere)
    async with TestServer(app) as target:

        async def redirect(_request: web.Request) -> web.Response:
            location = f"http://{target.host}:{target.port}/blob?signature=x%2Fy%3D"
            return web.Response(status=307, headers={"Location": location})

        async with serving(redirect) as (session, _):
            assert await read(session) == BODY
    assert "Authorization" not in given[0].headers
    assert given[0].raw_path == "/blob?signature=x%2Fy%3D"


async def test_redirects_end() -> None:
    async def loop(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": request.path})

    async with serving(loop) as (session, seen):
        with pytest.raises(RegistryUnreachableError, match="redirects"):
            await read(session)
    assert len(seen) == 5


async def test_a_registry_that_does_not_answer_is_unreachable() -> None:
    async with Registry.open("http://127.0.0.1:1", "node", None, ssl.create_default_context) as registry:
        with pytest.raises(RegistryUnreachableError):
            await RegistrySession(registry, Secret("a.b.c"), "acme/app").document("manifests/latest")
