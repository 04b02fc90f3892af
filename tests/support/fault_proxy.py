"""An HTTP proxy in front of a server that injects the faults of networks and services."""

import asyncio
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

_SLOW_DOWN = """<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"""
_HOP_BY_HOP = {"transfer-encoding", "connection", "keep-alive"}


class Fault(Enum):
    NONE = "none"
    ERROR = "500"
    SLOW_DOWN = "503 SlowDown"
    RESET = "connection reset"
    RESET_IN_BODY = "connection reset in the middle of an answer"
    SLOW = "no answer for longer than anybody waits"


class FaultProxy:
    """Forwards requests with their headers as they are, so that signatures hold.

    Attributes:
        fault: What becomes of requests from now on.
        methods: Which ones; the others are forwarded.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self.fault = Fault.NONE
        self.methods = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE"})
        self.endpoint = ""
        self.failed = 0
        self._session: aiohttp.ClientSession | None = None

    def set(self, fault: Fault, *methods: str) -> None:
        self.fault = fault
        self.methods = frozenset(methods) or frozenset({"GET", "HEAD", "PUT", "POST", "DELETE"})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.fault is Fault.NONE or request.method not in self.methods:
            return await self._forward(request)
        self.failed += 1
        if self.fault is Fault.ERROR:
            return web.Response(status=500)
        if self.fault is Fault.SLOW_DOWN:
            return web.Response(status=503, text=_SLOW_DOWN, content_type="application/xml")
        if self.fault is Fault.SLOW:
            await asyncio.sleep(30)
        if self.fault is Fault.RESET_IN_BODY:
            return await self._forward(request, cut=True)
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def _forward(self, request: web.Request, *, cut: bool = False) -> web.StreamResponse:
        assert self._session is not None
        headers = CIMultiDict(request.headers)
        data = await request.read()
        url = self._target + request.raw_path
        async with self._session.request(
            request.method,
            url,
            headers=headers,
            data=io.BytesIO(data) if data else None,
            allow_redirects=False,
        ) as answer:
            kept = [
                (name, value) for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP
            ]
            body = await answer.read()
            response = web.StreamResponse(status=answer.status, headers=CIMultiDict(kept))
            await response.prepare(request)
            if request.method != "HEAD":
                await response.write(body[: len(body) // 2] if cut else body)
            if cut:
                assert request.transport is not None
                request.transport.abort()
            return response

    async def start(self) -> web.AppRunner:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self.handle)
        self._session = aiohttp.ClientSession(
            auto_decompress=False, skip_auto_headers=["User-Agent", "Accept"]
        )
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port: Any = runner.addresses[0][1]
        self.endpoint = f"http://127.0.0.1:{port}"
        return runner

    async def close(self, runner: web.AppRunner) -> None:
        await runner.cleanup()
        if self._session is not None:
            await self._session.close()


@contextmanager
def fault_proxy(target: str) -> Iterator[FaultProxy]:
    """Run the proxy in a thread of its own."""
    proxy, loop = FaultProxy(target), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fault-proxy")
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(proxy.start(), loop).result(10)
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(proxy.close(runner), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
