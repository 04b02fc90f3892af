"""Encrypted pulls by clients that cannot decrypt, through `crisper node proxy`."""

import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp
from time import monotonic

import psutil
import pytest

from tests.e2e.conftest import GroupOf
from tests.support import images
from tests.support.clients import Client, Docker
from tests.support.crisper import (
    CRISPER,
    CrisperServer,
    Node,
    Operator,
    Organization,
    PullToken,
    unique,
)
from tests.support.edge import EdgeCache
from tests.support.encrypted import KeyPair
from tests.support.encrypted_images import tar_of
from tests.support.hostile_edge import HostileEdge
from tests.support.http import basic, request
from tests.support.images import Image
from tests.support.node_proxy import NodeProxy
from tests.support.processes import wait_until
from tests.support.slow_link import SlowLink
from tests.support.upstream import Upstream

MIB = 1 << 20
SIZE_MIB = int(os.environ.get("CRISPER_TEST_LARGE_MIB", "2048"))
LINE_BYTES_PER_S = 60 * MIB
CUTS = 10
RUNNABLE = (
    images.runnable(),
    images.multi_platform(),
    images.docker_schema2(),
    images.uncompressed(),
    images.compressible(),
)


@dataclass(frozen=True)
class Site:
    """A server with images, and a node whose runtime is the proxy."""

    crisper: CrisperServer
    operator: Operator
    organization: Organization
    upstream: Upstream
    group_of: GroupOf
    node: Node
    keys: KeyPair

    def mint(self, image: Image) -> PullToken:
        self.upstream.push(image)
        group = self.group_of(image)
        return self.operator.mint(self.organization, group, self.node, encryption="required")

    def proxy(self, folder: Path, registry: str | None = None, port: int | None = None) -> NodeProxy:
        return NodeProxy.with_secret(
            folder, registry or self.crisper.url, self.node, self.keys.private, port=port
        )

    def swapped(self, token: PullToken) -> dict[str, str]:
        """Return for each encrypted layer of a token's image another one of its size, if there is one."""
        headers = {"Authorization": basic(self.node.node_id, token.password(self.node))}
        repository, tag = token.reference.partition("/")[2].rsplit(":", 1)
        url = f"{self.crisper.url}/token?service=crisper&scope=repository:{repository}:pull"
        bearer = request("GET", url, headers=headers).expect(200).json()["access_token"]
        url = f"{self.crisper.url}/v2/{repository}/manifests/{tag}"
        answer = request("GET", url, headers={"Authorization": f"Bearer {bearer}"}).expect(200)
        sizes = {each["digest"]: each["size"] for each in answer.json()["layers"]}
        return {
            digest: next((other for other in sizes if other != digest and sizes[other] == size), digest)
            for digest, size in sizes.items()
        }

    def is_done(self, token: PullToken) -> bool:
        return self.operator.token_state(token) == "done"


@pytest.fixture(scope="module")
def site(crisper: CrisperServer, organization: Organization, upstream: Upstream, group_of: GroupOf) -> Site:
    keys = KeyPair.p256()
    node = crisper.operator.create_node(encryption_key=keys.public, runtime="proxy")
    return Site(crisper, crisper.operator, organization, upstream, group_of, node, keys)


@pytest.fixture(scope="module")
def proxy(site: Site, workdir: Path) -> Iterator[NodeProxy]:
    with site.proxy(Path(mkdtemp(dir=workdir))) as running:
        yield running


@pytest.mark.parametrize("image", RUNNABLE, ids=lambda image: image.name)
def test_docker_pulls_runs_and_records_the_original_digest(
    site: Site, proxy: NodeProxy, docker: Docker, image: Image
) -> None:
    token = site.mint(image)
    reference = proxy.reference(token)
    docker.pull(reference, token.username, proxy.password(token)).check()
    assert docker.digest(reference) == image.digest
    assert images.GREETING in docker.run(reference).check().output
    wait_until(lambda: site.is_done(token), timeout_s=15, what="the pull is complete")
    assert not docker.update(reference, token.username, proxy.password(token)).ok


def test_docker_does_not_pull_layers_that_it_has(site: Site, proxy: NodeProxy, docker: Docker) -> None:
    first, second = (
        replace(image, name=f"{image.name}-{number}")
        for number, image in enumerate(images.updates(2, "acme/proxied"))
    )
    for image in (first, second, second):
        token = site.mint(image)
        docker.update(proxy.reference(token), token.username, proxy.password(token)).check()
        assert docker.digest(proxy.reference(token)) == image.digest
    wait_until(lambda: site.is_done(token), timeout_s=30, what="the last pull is complete")


def test_every_client_can_use_the_proxy(site: Site, proxy: NodeProxy, client: Client) -> None:
    image = images.runnable()
    token = site.mint(image)
    client.pull(proxy.reference(token), token.username, proxy.password(token)).check()
    assert client.digest(proxy.reference(token)) == image.digest


def test_docker_without_the_secret_is_refused(site: Site, proxy: NodeProxy, docker: Docker) -> None:
    token = site.mint(images.runnable())
    refused = docker.pull(proxy.reference(token), token.username, token.token)
    assert "this proxy's secret" in refused.output
    assert not docker.login(proxy.host, token.username, f"{token.token}~wrong").ok
    docker.login(proxy.host, token.username, proxy.password(token)).check()


def test_the_credential_helper_adds_the_secret(
    site: Site, proxy: NodeProxy, docker: Docker, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = site.mint(images.runnable())
    source = own_folder / "token.json"
    source.write_text(json.dumps({"username": token.username, "password": token.token}))
    sources = {
        "registry.example.com": {"file": str(source)},
        proxy.host: {"proxy_of": "registry.example.com", "secret": str(proxy.secret_file)},
    }
    (own_folder / "credentials.json").write_text(json.dumps(sources))
    (own_folder / "config.json").write_text(json.dumps({"credHelpers": {proxy.host: "crisper"}}))
    monkeypatch.setenv("PATH", f"{CRISPER.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CRISPER_CREDENTIALS", str(own_folder / "credentials.json"))
    docker.pull_with(own_folder, proxy.reference(token)).check()
    assert docker.digest(proxy.reference(token)) == images.runnable().digest


@pytest.mark.full
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["flip", "swap", "cut", "slow body", "silent"])
def test_docker_behind_a_hostile_edge_pulls_the_right_image(
    site: Site, docker: Docker, own_folder: Path, mode: str
) -> None:
    image = replace(incompressible(12), name=f"acme/hostile-edge-{mode.replace(' ', '-')}")
    token = site.mint(image)
    cache = EdgeCache(site.crisper)
    made = site.operator.call("POST", "/edges", {"name": unique("edge"), "url": cache.url}).expect(201)
    folder = own_folder / "proxy"
    with cache.start(made.json()["key"]), HostileEdge(cache.url, mode, site.swapped(token)) as hostile:
        options = [f"--edge={hostile.url}"]
        proxy = NodeProxy.with_secret(folder, site.crisper.url, site.node, site.keys.private, options=options)
        with proxy:
            docker.pull(proxy.reference(token), token.username, proxy.password(token)).check()
            assert hostile.requests
            assert docker.digest(proxy.reference(token)) == image.digest
            assert images.GREETING in docker.run(proxy.reference(token)).check().output


def incompressible(size_mib: int) -> Image:
    """Two runnable layers, and four of random bytes as plain tar."""
    noise = [images.Layer.raw(tar_of({f"data-{each}": os.urandom(size_mib * MIB // 4)})) for each in range(4)]
    image = images.runnable()
    return images.build("acme/proxied-large", [*image.layers, *noise], cmd=["cat /etc/greeting"])


@pytest.mark.full
@pytest.mark.timeout(900)
def test_ten_cuts_and_a_killed_proxy_in_a_large_pull(
    site: Site, docker: Docker, own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = incompressible(SIZE_MIB)
    site.upstream.push(image)
    customer = site.crisper.customer(site.organization)
    group = customer.create_group(site.upstream.reference(image), **site.upstream.login)
    assert customer.wait_settled(group, timeout_s=600)["current_state"]["status"] == "stopped"
    token = site.operator.mint(site.organization, group, site.node, encryption="required")
    size = sum(len(layer.gzipped) for layer in image.layers)
    began = monotonic()
    with SlowLink(site.crisper.port, LINE_BYTES_PER_S) as link, ThreadPoolExecutor(1) as pool:
        proxy = site.proxy(own_folder, f"http://{link.host}")
        reference = proxy.reference(token)
        peak = 0
        docker.forget()
        pulled = pool.submit(docker.update, reference, token.username, proxy.password(token), timeout_s=600)
        for cut in range(CUTS + 1):
            target = (cut + 1) * size // (CUTS + 2)
            wait_until(lambda: link.delivered_bytes > target, timeout_s=120, what="progress")  # noqa: B023
            peak = max(peak, psutil.Process(proxy.pid).memory_info().rss)
            if cut == CUTS // 2:
                proxy.kill9()
                proxy = site.proxy(own_folder, f"http://{link.host}", proxy.port)
            else:
                link.cut_all()
        pulled.result(600).check()
        twice = link.delivered_bytes / size - 1
        took_s = monotonic() - began
        with capsys.disabled():
            sys.stdout.write(
                f" {size / MIB:.0f} MiB in {took_s:.0f} s, {twice:.3%} fetched twice, "
                f"{peak / MIB:.0f} MiB of memory "
            )
    assert docker.digest(reference) == image.digest
    assert images.GREETING in docker.run(reference).check().output
    assert 0 <= twice < 0.02
    assert peak < 300 * MIB
    proxy.stop()
