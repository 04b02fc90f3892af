"""Blobs of other organizations are linked by proof of access, and nobody gets one otherwise."""

import random
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from registry.errors import AuthenticationFailedError, PullFailedError
from registry.imports.linking import BlobLinker
from registry.upstream.egress import EgressGuard
from storage.digest import Digest
from storage.errors import BlobNotFoundError
from tests.integration.upstream.conftest import Bench, credential
from tests.support.distribution import Image, digest_of, make_image
from tests.support.tls_upstream import tls_upstream
from tests.support.upstream_faults import FaultyUpstream, body, redirect, status

LAYER = random.Random(60).randbytes(300_000)
DIGEST = digest_of(LAYER)
IMAGE = make_image([LAYER])


class MemoryOrigins:
    """Keeps `registry.model.imports.BlobOrigins` in a set."""

    def __init__(self) -> None:
        self.known: set[tuple[Digest, str]] = set()

    async def add(self, digest: Digest, registry: str) -> None:
        self.known.add((digest, registry))

    async def has(self, digest: Digest, registry: str) -> bool:
        return (digest, registry) in self.known


class Market:
    """A registry that the operator trusts and one that it does not, both over TLS, and two customers."""

    def __init__(
        self, bench: Bench, trusted: tuple[FaultyUpstream, Path], other: tuple[FaultyUpstream, Path]
    ) -> None:
        self.bench, self.trusted, self.other = bench, trusted[0], other[0]
        self.options: dict[str, Any] = {
            "guard": EgressGuard(private=[self.trusted.host, self.other.host]),
            "authorities": {
                upstream.host: ssl.create_default_context(cafile=ca) for upstream, ca in (trusted, other)
            },
        }
        self.bench.sharing = BlobLinker(bench.store, MemoryOrigins(), [self.trusted.host])

    async def run(self, upstream: FaultyUpstream, organization: str, password: str = "s3cret") -> None:  # noqa: S107
        given = credential("robot", password)
        await self.bench.run(f"{upstream.host}/app:1", given, organization=organization, **self.options)

    def fetched(self, upstream: FaultyUpstream) -> int:
        return sum(seen.method == "GET" and seen.path.endswith(DIGEST) for seen in upstream.seen)

    async def has(self, organization: str) -> bool:
        return await self.bench.store.contains(organization, Digest.parse(DIGEST))


@pytest.fixture
async def market(bench: Bench, tmp_path: Path) -> AsyncIterator[Market]:
    async with tls_upstream(tmp_path / "trusted") as trusted, tls_upstream(tmp_path / "other") as other:
        for upstream, _ in (trusted, other):
            upstream.add(IMAGE)
            upstream.want("robot", "s3cret")
        yield Market(bench, trusted, other)


async def test_who_may_have_a_blob_gets_it_without_a_download(market: Market) -> None:
    await market.run(market.trusted, "first")
    await market.run(market.trusted, "second")
    assert market.fetched(market.trusted) == 1
    assert await market.bench.read(DIGEST, "second") == LAYER
    assert market.bench.reports[-1].bytes_done == len(LAYER)


async def test_what_is_linked_outlives_the_lender(market: Market) -> None:
    await market.run(market.trusted, "first")
    await market.run(market.trusted, "second")
    await market.bench.store.delete("first", Digest.parse(DIGEST))
    assert await market.bench.read(DIGEST, "second") == LAYER


@pytest.mark.parametrize("code", [401, 403, 404, 500])
async def test_a_registry_that_shows_no_blob_proves_nothing(market: Market, code: int) -> None:
    """The thief knows the digest and may see a manifest of its own that names it, but not the blob."""
    await market.run(market.trusted, "first")
    market.trusted.fail(DIGEST, *[status(code)] * 20)
    with pytest.raises((AuthenticationFailedError, PullFailedError)):
        await market.run(market.trusted, "thief")
    assert not await market.has("thief")
    with pytest.raises(BlobNotFoundError):
        await market.bench.read(DIGEST, "thief")


async def test_wrong_credentials_prove_nothing(market: Market) -> None:
    await market.run(market.trusted, "first")
    with pytest.raises(AuthenticationFailedError):
        await market.run(market.trusted, "thief", "guessed")
    assert not await market.has("thief")


async def test_a_registry_of_the_thiefs_own_proves_nothing_whatever_it_says(market: Market) -> None:
    """It answers every HEAD with 200 and the right size, and has no byte of the blob."""
    await market.run(market.trusted, "first")
    market.other.fail(DIGEST, *[body(b"x" * len(LAYER))] * 20)
    with pytest.raises(PullFailedError, match="other bytes for the"):
        await market.run(market.other, "thief")
    assert not await market.has("thief")
    assert not [seen for seen in market.other.seen if seen.method == "HEAD"]


async def test_a_blob_from_elsewhere_is_downloaded_once_from_a_trusted_one(
    market: Market,
) -> None:
    await market.run(market.other, "first")
    await market.run(market.trusted, "second")
    assert market.fetched(market.trusted) == 1
    await market.run(market.trusted, "third")
    assert market.fetched(market.trusted) == 1


async def test_a_blob_of_another_size_is_not_linked(market: Market) -> None:
    await market.run(market.trusted, "first")
    kind, data = IMAGE.manifests[IMAGE.root]
    lying = data.replace(f'"size": {len(LAYER)}'.encode(), f'"size": {len(LAYER) - 1}'.encode())
    assert lying != data
    market.trusted.add(Image(digest_of(lying), {digest_of(lying): (kind, lying)}, IMAGE.blobs))
    with pytest.raises(PullFailedError, match="another size"):
        await market.run(market.trusted, "thief")
    assert not await market.has("thief")


async def test_where_a_head_leads_to_a_signed_address_a_byte_is_fetched(market: Market) -> None:
    await market.run(market.trusted, "first")
    market.trusted.fail(DIGEST, redirect(f"/signed/blobs/{DIGEST}"), status(403))
    await market.run(market.trusted, "second")
    assert [seen.range for seen in market.trusted.seen if seen.path.endswith(DIGEST)][-1] == "bytes=0-0"
    assert await market.bench.read(DIGEST, "second") == LAYER


async def test_plain_http_proves_nothing(bench: Bench, upstream: FaultyUpstream) -> None:
    upstream.add(IMAGE)
    bench.sharing = BlobLinker(bench.store, MemoryOrigins(), [upstream.host])
    for organization in ("first", "second"):
        await bench.run(f"{upstream.host}/app:1", organization=organization)
    assert upstream.count(DIGEST) == 2


async def test_without_trust_every_organization_downloads(market: Market) -> None:
    for organization in ("first", "second"):
        await market.run(market.other, organization)
    assert market.fetched(market.other) == 2
