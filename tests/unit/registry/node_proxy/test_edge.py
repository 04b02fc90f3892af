"""What the proxy accepts from an edge cache, and for how long a bad one is left alone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from registry.errors import ConfigError, RegistryRefusedError, RegistryUnreachableError
from registry.node_proxy import edge as edges
from registry.node_proxy.bodies import Pace
from registry.node_proxy.edge import Edge, Edges
from storage.digest import Digest

BODY = bytes(range(256)) * 40
DIGEST = Digest.of(BODY)
FIRST, LAST = 10, len(BODY) - 1
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(respond: Handler) -> AsyncIterator[Edge]:
    app = web.Application()
    app.router.add_get("/blobs/{digest}", respond)
    async with TestServer(app) as server, aiohttp.ClientSession() as client:
        yield Edge(str(server.make_url("/")).rstrip("/"), client)


async def read(edge: Edge) -> bytes:
    return b"".join([piece async for piece in edge.read_range(DIGEST, FIRST, LAST - FIRST + 1)])


def answer(
    body: bytes, *, status: int = 206, content_range: str = f"bytes {FIRST}-{LAST}/{len(BODY)}", **more: str
) -> Handler:
    async def respond(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers={"Content-Range": content_range, **more})

    return respond


async def test_a_range_is_read_without_a_credential() -> None:
    seen: list[web.Request] = []

    async def respond(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        return await answer(BODY[FIRST:])(request)

    async with serving(respond) as edge:
        assert await read(edge) == BODY[FIRST:]
    assert seen[0].headers["Range"] == f"bytes={FIRST}-{LAST}"
    assert seen[0].match_info["digest"] == str(DIGEST)
    assert "Authorization" not in seen[0].headers
    assert "Cookie" not in seen[0].headers


@pytest.mark.parametrize(
    "respond",
    [
        answer(BODY, status=200, content_range=""),
        answer(BODY[FIRST:], content_range=f"bytes {FIRST + 1}-{LAST}/{len(BODY)}"),
        answer(BODY[FIRST:-1]),
        answer(BODY[FIRST:] + b"x"),
        answer(b"", status=307, Location="http://127.0.0.1:1/"),
        answer(b"", status=401),
        answer(b"", status=500),
        answer(b"", status=204),
    ],
    ids=["whole", "other start", "short", "long", "redirect", "401", "500", "204"],
)
async def test_anything_else_is_refused(respond: Handler) -> None:
    async with serving(respond) as edge:
        with pytest.raises(RegistryUnreachableError):
            await read(edge)


async def test_an_absent_layer_is_no_failure_of_the_edge() -> None:
    async with serving(answer(b"", status=404)) as edge:
        with pytest.raises(RegistryRefusedError):
            await read(edge)


async def test_a_slow_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edges, "PACE", Pace(len(BODY), 0.3))

    async def respond(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=206, headers={"Content-Range": f"bytes {FIRST}-{LAST}/9999999"})
        response.content_length = LAST - FIRST + 1
        await response.prepare(request)
        for byte in BODY:
            await response.write(bytes([byte]))
            await asyncio.sleep(0.01)
        return response

    async with serving(respond) as edge, asyncio.timeout(30):
        with pytest.raises(RegistryUnreachableError):
            await read(edge)


async def test_a_slow_head_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edges, "HEAD_S", 0.3)
    ended = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 206 Partial Content\r\nX-Long: ")
        while not (reader.at_eof() or writer.is_closing()):
            writer.write(b"x")
            await asyncio.sleep(0.01)
            with suppress(TimeoutError, ConnectionError):
                await asyncio.wait_for(reader.read(1), 0.01)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, aiohttp.ClientSession() as client, asyncio.timeout(30):
        with pytest.raises(RegistryUnreachableError):
            await read(Edge(f"http://127.0.0.1:{port}", client))
        await ended.wait()


def rests(edge: Edge) -> bool:
    return not edge.is_usable


@pytest.mark.usefixtures("virtual_time")
async def test_an_edge_rests_longer_after_each_failure() -> None:
    async with aiohttp.ClientSession() as client:
        edge = Edge("https://edge.example.net", client)
        for rest_s in (60, 120, 240):
            edge.failed("it does not answer")
            edge.failed("another connection has failed, too")
            await asyncio.sleep(rest_s - 1)
            assert rests(edge)
            await asyncio.sleep(2)
        edge.succeeded()
        edge.failed("it does not answer")
        await asyncio.sleep(61)
        assert not rests(edge)
        edge.distrust()
        await asyncio.sleep(3599)
        assert rests(edge)


async def test_urls_of_edges() -> None:
    async with aiohttp.ClientSession() as client:
        known = Edges(client, None)
        assert known.configured is None
        assert known.at("https://edge.example.net/") is known.at("https://edge.example.net")
        for url in ("", "edge.example.net", "ftp://edge.example.net", "https://u:p@edge.example.net"):
            assert known.at(url) is None
        assert Edges(client, "http://edge.example.net:8080").configured is not None
        with pytest.raises(ConfigError, match="--edge"):
            Edges(client, "edge.example.net")
