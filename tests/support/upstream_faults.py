"""An upstream that injects scripted faults, request by request."""

import asyncio
import base64
import re
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from aiohttp import web

from tests.support.distribution import Image, serve

_PIECE_S = 0.25

Fault = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    authorization: str | None
    range: str | None


class FaultyUpstream:
    """Serves images; the faults put on a path are used up first, one a request.

    With `basic` it wants HTTP Basic; with `realm` too, a Bearer token from that URL.
    """

    def __init__(self) -> None:
        self.host = ""
        self.basic: str | None = None
        self.realm: str | None = None
        self.tokens: set[str] = set()
        self.expires_in: float = 300
        self.token_status = 200
        self.seen: list[Seen] = []
        self._manifests: dict[str, tuple[str, bytes]] = {}
        self._blobs: dict[str, bytes] = {}
        self._faults: dict[str, deque[Fault]] = {}
        self._lasting: dict[str, Fault] = {}

    def add(self, image: Image, tag: str = "1") -> None:
        self._manifests |= image.manifests
        self._manifests[tag] = image.manifests[image.root]
        self._blobs |= image.blobs

    def want(self, username: str, password: str, *, realm: str | None = None) -> None:
        self.basic = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
        self.realm = realm

    def fail(self, name: str, *faults: Fault) -> None:
        """Put faults on a digest, a tag or `token`."""
        self._faults.setdefault(name, deque()).extend(faults)

    def always(self, name: str, fault: Fault) -> None:
        """Answer every request for a digest, a tag or `token` that is let in, with a fault."""
        self._lasting[name] = fault

    def count(self, name: str) -> int:
        return sum(seen.path.endswith(name) for seen in self.seen)

    def starts(self, name: str) -> list[int]:
        """List where each request for a blob asked to start."""
        asked = [seen.range or "bytes=0-" for seen in self.seen if seen.path.endswith(name)]
        return [int(text.removeprefix("bytes=").partition("-")[0]) for text in asked]

    def ranges(self, name: str) -> list[tuple[int, int]]:
        """List which closed ranges of a blob were asked for, as start and stop."""
        asked = (seen.range or "" for seen in self.seen if seen.path.endswith(name))
        found = (re.fullmatch(r"bytes=(\d+)-(\d+)", text) for text in asked)
        return [(int(match[1]), int(match[2]) + 1) for match in found if match]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        name = request.path.rsplit("/", 1)[-1]
        authorization = request.headers.get("Authorization")
        self.seen.append(Seen(request.method, request.path, authorization, request.headers.get("Range")))
        data, kind = self._content(request.path, name)
        faults = self._faults.get(name)
        if faults:
            return await faults.popleft()(request, data)
        if name == "token":
            return self._token(authorization)
        if not self._admits(authorization):
            return self._challenge()
        if request.path != "/v2/" and not data and not kind:
            return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, status=404)
        if lasting := self._lasting.get(name):
            return await lasting(request, data)
        return ranged(request, data, kind or "application/octet-stream")

    def _content(self, path: str, name: str) -> tuple[bytes, str]:
        if "/manifests/" in path and name in self._manifests:
            kind, data = self._manifests[name]
            return data, kind
        if "/blobs/" in path and name in self._blobs:
            return self._blobs[name], "application/octet-stream"
        return b"", ""

    def _admits(self, authorization: str | None) -> bool:
        if self.basic is None:
            return True
        if self.realm is None:
            return authorization == self.basic
        return bool(authorization) and str(authorization).removeprefix("Bearer ") in self.tokens

    def _challenge(self) -> web.Response:
        offer = 'Basic realm="upstream"'
        if self.realm is not None:
            offer = f'Bearer realm="{self.realm}",service="upstream"'
        return web.json_response({}, status=401, headers={"WWW-Authenticate": offer})

    def _token(self, authorization: str | None) -> web.Response:
        if self.token_status != 200 or authorization != self.basic:
            return web.json_response({}, status=self.token_status if self.token_status != 200 else 401)
        token = secrets.token_urlsafe(12)
        self.tokens.add(token)
        asyncio.get_running_loop().call_later(self.expires_in, self.tokens.discard, token)
        return web.json_response({"token": token, "expires_in": self.expires_in})


def ranged(request: web.Request, data: bytes, kind: str) -> web.Response:
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    if match is None:
        return web.Response(body=data, content_type=kind)
    start, stop = int(match[1]), min(int(match[2] or len(data)) + 1, len(data))
    if start >= len(data):
        return web.Response(status=416)
    where = {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
    return web.Response(status=206, body=data[start:stop], content_type=kind, headers=where)


async def begun(request: web.Request, data: bytes) -> tuple[web.StreamResponse, bytes]:
    """Send the head of the answer; return it, and the body that it promises."""
    answer = ranged(request, data, "application/octet-stream")
    body = answer.body
    assert isinstance(body, bytes)
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(body)
    await response.prepare(request)
    return response, body


def cut_after(count: int) -> Fault:
    """Send `count` bytes of what was asked for, then drop the connection."""

    async def fault(request: web.Request, data: bytes) -> web.StreamResponse:
        response, body = await begun(request, data)
        await response.write(body[:count])
        assert request.transport is not None
        request.transport.close()
        return response

    return fault


def slow_by(total_s: float, *, cut_at: int | None = None) -> Fault:
    """Send what was asked for in pieces over `total_s`, or `cut_at` bytes of it and then break off."""

    async def fault(request: web.Request, data: bytes) -> web.StreamResponse:
        response, body = await begun(request, data)
        sent, pieces = body[:cut_at], round(total_s / _PIECE_S)
        size = -(-len(sent) // pieces)
        for start in range(0, len(sent), size):
            await asyncio.sleep(_PIECE_S)
            await response.write(sent[start : start + size])
        if cut_at is not None:
            await asyncio.sleep(_PIECE_S)
            assert request.transport is not None
            request.transport.close()
        return response

    return fault


async def drip(request: web.Request, data: bytes) -> web.StreamResponse:
    """Send a byte now and then for as long as the client waits."""
    answer = ranged(request, data, "application/octet-stream")
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    await response.prepare(request)
    with suppress(ConnectionError):
        for _ in range(100):
            await response.write(b"x")
            await asyncio.sleep(0.1)
    return response


def status(code: int, **headers: str) -> Fault:
    lines = {name.replace("_", "-"): value for name, value in headers.items()}

    async def fault(_request: web.Request, _data: bytes) -> web.StreamResponse:
        return web.Response(status=code, headers=lines, text="malformed {")

    return fault


def body(data: bytes, kind: str = "application/octet-stream", *, chunked: bool = False) -> Fault:
    """Answer 200 with other bytes."""

    async def fault(request: web.Request, _data: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": kind})
        if chunked:
            response.enable_chunked_encoding()
        else:
            response.content_length = len(data)
        await response.prepare(request)
        await response.write(data)
        await response.write_eof()
        return response

    return fault


def redirect(location: str, code: int = 307) -> Fault:
    return status(code, Location=location)


@asynccontextmanager
async def faulty_upstream() -> AsyncIterator[FaultyUpstream]:
    upstream = FaultyUpstream()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", upstream.handle)
    async with serve(app) as host:
        upstream.host = host
        yield upstream
