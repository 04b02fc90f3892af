"""An outbound proxy of the tests' own: CONNECT alone, to wherever the test says that a name or address is."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class ConnectProxy:
    """A proxy on the loopback.

    Attributes:
        leads: From `host:port` as asked to a port of this machine; None refuses with 403.
        credentials: `user:password` that it wants, if any.
        asked: What it was asked to connect to, in order.
        request_heads: Every request head, word for word.
    """

    leads: Callable[[str], int | None]
    credentials: str | None = None
    asked: list[str] = field(default_factory=list)
    request_heads: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        user = f"{self.credentials}@" if self.credentials else ""
        return f"http://{user}127.0.0.1:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.request_heads.append(head)
            method, target, _ = head.split("\r\n", 1)[0].split(" ")
            port = self.leads(target) if method == "CONNECT" else None
            self.asked.append(target)
            if not self._admits(head):
                writer.write(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
            elif port is None:
                writer.write(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
            else:
                await self._tunnel(reader, writer, port)
        writer.close()

    def _admits(self, head: str) -> bool:
        if self.credentials is None:
            return True
        return "Basic " + base64.b64encode(self.credentials.encode()).decode() in head

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await asyncio.gather(_pour(reader, far_writer), _pour(far_reader, writer))


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def connect_proxy(
    leads: Callable[[str], int | None], credentials: str | None = None
) -> AsyncIterator[ConnectProxy]:
    proxy = ConnectProxy(leads, credentials)
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
