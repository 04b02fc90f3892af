"""A misbehaving upstream over TLS, with a certificate of the tests' own CA."""

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from tests.support.certificates import SERVER, TestCa
from tests.support.upstream_faults import FaultyUpstream


@asynccontextmanager
async def tls_upstream(folder: Path, hosts: Sequence[str] = ()) -> AsyncIterator[tuple[FaultyUpstream, Path]]:
    """Serve on a free port of the loopback; yield the upstream and its CA's file.

    Args:
        hosts: Names beside 127.0.0.1 that the certificate is for.
    """
    files = TestCa.create(folder).issue("upstream", hosts=["127.0.0.1", *hosts], purposes=SERVER)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    upstream = FaultyUpstream()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", upstream.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    upstream.host = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield upstream, files.ca
    finally:
        await runner.cleanup()
