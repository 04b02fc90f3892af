"""Upstreams that speak TLS at a private address."""

import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from registry.errors import PlainHttpError, PullFailedError
from registry.oci.platform import LINUX_AMD64
from registry.oci.reference import Reference
from registry.upstream.client import UpstreamClient
from registry.upstream.egress import EgressGuard
from registry.upstream.image_documents import read_documents
from tests.integration.upstream.conftest import FAST, SHORT, credential
from tests.support.distribution import make_image
from tests.support.upstream_faults import FaultyUpstream

IMAGE = make_image([b"layer"])


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Write a certificate for 127.0.0.1 with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "upstream")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    path = tmp_path / "upstream.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(builder.sign(key, SHA256()).public_bytes(Encoding.PEM) + secret)
    return path


@pytest.fixture
async def secure(certificate: Path) -> AsyncIterator[FaultyUpstream]:
    upstream = FaultyUpstream()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", upstream.handle)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    upstream.host = f"127.0.0.1:{runner.addresses[0][1]}"
    upstream.add(IMAGE)
    upstream.want("robot$ci", "s3cret:päss", realm=f"https://{upstream.host}/token")
    yield upstream
    await runner.cleanup()


async def root(upstream: FaultyUpstream, guard: EgressGuard, trusted: Path | None) -> str:
    context = ssl.create_default_context(cafile=trusted) if trusted else None
    client = UpstreamClient(guard, timeouts=SHORT, backoff=FAST, ssl_context=context)
    async with client:
        source = await client.open(Reference.parse(f"{upstream.host}/app:1"), credential())
        return str((await read_documents(source, LINUX_AMD64)).root.digest)


def insecure(host: str) -> EgressGuard:
    return EgressGuard(insecure=[host])


def private(host: str) -> EgressGuard:
    return EgressGuard(private=[host])


@pytest.mark.parametrize("listed_as", [insecure, private])
async def test_a_listed_upstream_that_speaks_tls_is_spoken_to_in_tls(
    secure: FaultyUpstream, certificate: Path, listed_as: Callable[[str], EgressGuard]
) -> None:
    assert await root(secure, listed_as(secure.host), certificate) == IMAGE.root


@pytest.mark.parametrize("listed_as", [insecure, private])
async def test_a_certificate_that_is_not_trusted_is_refused_even_when_listed(
    secure: FaultyUpstream, listed_as: Callable[[str], EgressGuard]
) -> None:
    with pytest.raises(PullFailedError, match="certificate that is not trusted"):
        await root(secure, listed_as(secure.host), None)
    assert secure.seen == []


async def test_a_private_address_needs_listing_in_tls_too(secure: FaultyUpstream, certificate: Path) -> None:
    with pytest.raises(PullFailedError, match="private or reserved"):
        await root(secure, EgressGuard(), certificate)


async def test_listed_as_private_is_not_listed_for_plain_http(upstream: FaultyUpstream) -> None:
    with pytest.raises(PlainHttpError, match="answers without TLS"):
        await root(upstream, EgressGuard(private=[upstream.host]), None)
    assert upstream.seen == []
