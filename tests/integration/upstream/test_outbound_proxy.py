"""What the egress guard promises behind an outbound proxy (docs/adr/0038)."""

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from yarl import URL

from registry.errors import PullFailedError, UpstreamUnavailableError
from registry.upstream.egress import EgressGuard
from registry.upstream.routes import OutboundProxy
from tests.integration.upstream.conftest import Bench, credential
from tests.support.connect_proxy import ConnectProxy, connect_proxy
from tests.support.distribution import digest_of, make_image
from tests.support.names import Names
from tests.support.tls_upstream import tls_upstream
from tests.support.upstream_faults import FaultyUpstream, redirect

LAYER = b"layer" * 1_000
IMAGE = make_image([LAYER])
NAME = "registry.example.com"
PUBLIC = "93.184.215.14"
USER = "operator:canary-of-the-proxy"


@dataclass(frozen=True)
class Site:
    """A registry that is reached only through a proxy."""

    bench: Bench
    upstream: FaultyUpstream
    proxy: ConnectProxy
    trust: ssl.SSLContext
    names: Names
    resolves: bool = False

    async def pull(self, host: str = NAME, guard: EgressGuard | None = None, url: str | None = None) -> None:
        stored = await self.bench.run(
            f"{host}/app:1",
            credential("robot", "s3cret"),
            guard=guard or EgressGuard(),
            ssl_context=self.trust,
            proxy=OutboundProxy(URL(url or self.proxy.url), self.resolves),
            resolver=self.names,
        )
        assert str(stored.digest) == IMAGE.root


@pytest.fixture
async def site(bench: Bench, tmp_path: Path) -> AsyncIterator[Site]:
    async with tls_upstream(tmp_path / "tls", [NAME, "10.1.2.3"]) as (upstream, ca):
        upstream.add(IMAGE)
        upstream.want("robot", "s3cret")
        port = int(upstream.host.rpartition(":")[2])
        async with connect_proxy(lambda _: port, USER) as proxy:
            trust = ssl.create_default_context(cafile=ca)
            yield Site(bench, upstream, proxy, trust, Names({NAME: [PUBLIC]}))


async def test_crisper_resolves_a_name_and_gives_the_proxy_the_address(site: Site) -> None:
    await site.pull()
    assert set(site.proxy.asked) == {f"{PUBLIC}:443"}
    assert all(f"Host: {NAME}\r\n" in head for head in site.proxy.request_heads)
    assert not any("\nAuthorization" in head for head in site.proxy.request_heads)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "fd00:ec2::254"]
)
async def test_a_name_that_leads_to_a_private_address_never_reaches_the_proxy(
    site: Site, address: str
) -> None:
    with pytest.raises(PullFailedError, match=f"{NAME} is at a private or reserved address"):
        await replace(site, names=Names({NAME: [address]})).pull()
    assert site.proxy.asked == []


async def test_a_name_that_leads_elsewhere_the_next_time_gains_nothing(site: Site) -> None:
    names = Names({NAME: [PUBLIC, "127.0.0.1"]})
    await_refusal = replace(site, names=names)
    with pytest.raises(PullFailedError, match="private or reserved"):
        await await_refusal.pull()
    assert set(site.proxy.asked) == {f"{PUBLIC}:443"}


async def test_a_redirect_to_a_private_address_never_reaches_the_proxy(site: Site) -> None:
    site.upstream.fail(digest_of(LAYER), redirect("https://10.1.2.3/blob"))
    with pytest.raises(PullFailedError, match=r"10\.1\.2\.3 is at a private"):
        await site.pull()
    assert set(site.proxy.asked) == {f"{PUBLIC}:443"}


async def test_a_proxy_that_resolves_is_given_names_and_no_private_address(site: Site) -> None:
    resolving = replace(site, resolves=True, names=Names({}))
    await resolving.pull()
    assert set(site.proxy.asked) == {f"{NAME}:443"}
    for host in ("10.1.2.3", "[::ffff:10.1.2.3]"):
        with pytest.raises(PullFailedError, match="private or reserved"):
            await resolving.pull(host)
    assert set(site.proxy.asked) == {f"{NAME}:443"}


@pytest.mark.parametrize("host", ["2130706433.", "0x7f.1", "127.1", "0177.0.0.1"])
async def test_a_number_in_disguise_is_no_name_for_a_proxy(site: Site, host: str) -> None:
    site.upstream.fail(digest_of(LAYER), redirect(f"https://{host}/blob"))
    with pytest.raises(PullFailedError, match=r"private or reserved|not a host"):
        await replace(site, resolves=True).pull()
    assert set(site.proxy.asked) == {f"{NAME}:443"}


async def test_a_listed_host_is_reached_without_the_proxy(site: Site) -> None:
    await site.pull(site.upstream.host, EgressGuard(private=[site.upstream.host]))
    assert site.proxy.asked == []


async def test_the_certificate_has_to_be_the_names_and_not_the_addresss(site: Site) -> None:
    with pytest.raises(PullFailedError, match="certificate that is not trusted"):
        await replace(site, names=Names({"other.example.com": [PUBLIC]})).pull("other.example.com")


@pytest.mark.parametrize("user", ["", "operator:wrong-canary@"])
async def test_a_proxy_that_does_not_let_us_pass_ends_the_import(site: Site, user: str) -> None:
    url = f"http://{user}127.0.0.1:{site.proxy.port}"
    with pytest.raises(PullFailedError, match="the outbound proxy refuses it") as failure:
        await site.pull(url=url)
    assert "canary" not in repr(failure.value) + repr(vars(failure.value))
    assert failure.value.__context__ is None


async def test_a_proxy_that_is_down_is_tried_again_and_named(site: Site) -> None:
    with pytest.raises(UpstreamUnavailableError, match="the outbound proxy does not answer"):
        await site.pull(url="http://operator:canary@127.0.0.1:1")
