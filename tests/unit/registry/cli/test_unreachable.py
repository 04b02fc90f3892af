"""The command line names the cause when it cannot reach a server, tried against real ones."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web

from auth.secret import Secret
from registry.cli.client import Server, ServerUnreachableError, open_client
from tests.support.certificates import SERVER, CertificateFiles, TestCa
from tests.support.processes import free_port


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestCa:
    return TestCa.create(tmp_path_factory.mktemp("ca"))


def issue(authority: TestCa, name: str, host: str = "127.0.0.1", hours: float = 1) -> CertificateFiles:
    return authority.issue(name, hosts=[host], purposes=SERVER, expires_in=timedelta(hours=hours))


@asynccontextmanager
async def serving(files: CertificateFiles | None, text: str = '{"items": []}') -> AsyncIterator[int]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    context = None
    if files is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(files.certificate, files.key)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def cause(url: str, ca: Path | None = None, certificate: Path | None = None) -> str:
    async with open_client(Server(url, Secret("key"), url, ca, certificate)) as client:
        try:
            await client.operator("GET", "/nodes")
        except ServerUnreachableError as error:
            return str(error)
    return "reached"


@pytest.mark.parametrize(
    ("host", "hours", "trusted", "said"),
    [
        ("127.0.0.1", 1.0, True, "reached"),
        ("127.0.0.1", 1.0, False, "is not trusted: set CRISPER_CA"),
        ("127.0.0.1", -0.5, True, "has expired"),
        ("registry.example.com", 1.0, True, "is for another name"),
    ],
)
async def test_what_is_wrong_with_a_certificate_is_said(
    authority: TestCa, host: str, hours: float, *, trusted: bool, said: str
) -> None:
    async with serving(issue(authority, "server", host, hours)) as port:
        assert said in await cause(f"https://127.0.0.1:{port}", authority.path if trusted else None)


async def test_a_local_server_is_known_by_its_certificate_whatever_its_name(authority: TestCa) -> None:
    mine, other = issue(authority, "mine", "registry.example.com"), issue(authority, "other")
    async with serving(mine) as port:
        url = f"https://127.0.0.1:{port}"
        assert await cause(url, certificate=mine.certificate) == "reached"
        assert "is not trusted" in await cause(url, certificate=other.certificate)


async def test_http_and_https_are_not_mixed_up(authority: TestCa) -> None:
    async with serving(None) as port:
        assert "does not use TLS" in await cause(f"https://127.0.0.1:{port}")
    async with serving(issue(authority, "server")) as port:
        assert "https://" in await cause(f"http://127.0.0.1:{port}")


async def test_what_answers_may_be_another_server() -> None:
    async with serving(None, "<html>welcome</html>") as port:
        assert "is not from a Crisper server" in await cause(f"http://127.0.0.1:{port}")


async def test_a_connection_that_is_closed_is_told_from_one_that_is_refused() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    listener = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        assert "closed the connection" in await cause(f"http://127.0.0.1:{port}")
    assert "no server answers at" in await cause(f"http://127.0.0.1:{free_port()}")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://nothing.invalid", "the name nothing.invalid of http://nothing.invalid cannot be resolved"),
        ("registry.example.com", "is not a valid URL"),
        ("ftp://registry.example.com", "is not a valid URL"),
        ("http://", "is not a valid URL"),
    ],
)
async def test_addresses_that_lead_nowhere_are_named(url: str, said: str) -> None:
    assert said in await cause(url)
