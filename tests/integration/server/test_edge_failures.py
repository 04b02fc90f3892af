"""`crisper node proxy` before an edge cache that fails or lies: the image is right, or there is none."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import IncompleteRead
from pathlib import Path

import pytest

from tests.integration.server.conftest import Shop
from tests.integration.server.test_edge_cache import create_edge, sent_to_edges
from tests.integration.server.test_node_proxy import Site
from tests.support import images
from tests.support.crisper import CrisperServer
from tests.support.cutting_relay import CuttingRelay
from tests.support.edge import EdgeCache
from tests.support.encrypted import KeyPair
from tests.support.hostile_edge import BAD, SLOW, HostileEdge
from tests.support.node_proxy import NodeProxy
from tests.support.processes import free_port, wait_until
from tests.support.slow_link import SlowLink
from tests.support.upstream import Upstream

MIB = 1 << 20
IMAGE = images.random_layers(2, 5 * MIB, "acme/at-the-edge")
LARGE = images.random_layers(2, 16 * MIB, "acme/large-at-the-edge")
LONGEST_S = 60
OTHERS = tuple(mode for mode in (*BAD, *SLOW) if mode != "flip")


@pytest.fixture(scope="module")
def site(edge_server: CrisperServer, upstream: Upstream) -> Site:
    keys, operator = KeyPair.p256(), edge_server.operator
    node = operator.create_node(encryption_key=keys.public, runtime="proxy")
    return Site(edge_server, upstream, operator.create_organization(), keys, node, {})


@pytest.fixture(scope="module")
def edge(site: Site) -> Iterator[EdgeCache]:
    cache = EdgeCache(site.server)
    _, key = create_edge(site.server, cache.url)
    with cache.start(key):
        yield cache


def proxy_of(site: Site, folder: Path, edge: str | None, registry: str | None = None) -> NodeProxy:
    options = [f"--edge={edge}"] if edge else []
    url = registry or site.server.url
    return NodeProxy.with_secret(folder, url, site.node, site.keys.private, options=options)


def size_of(image: images.Image) -> int:
    return sum(layer["size"] for layer in json.loads(image.manifest)["layers"])


def test_layers_come_from_the_edge_and_the_rest_from_the_registry(
    site: Site, edge: EdgeCache, tmp_path: Path
) -> None:
    token = site.mint(IMAGE)
    with (
        CuttingRelay(site.server.port) as relay,
        proxy_of(site, tmp_path, edge.url, f"http://{relay.host}") as proxy,
    ):
        digest, _, blobs = proxy.pull(token)
        assert digest == IMAGE.digest
        assert {name: IMAGE.blobs[name] for name in blobs} == blobs
        assert relay.delivered_bytes < MIB
    wait_until(lambda: site.server.operator.token_state(token) == "done", timeout_s=10, what="complete")


@pytest.mark.full
def test_the_registry_names_the_edge(site: Site, edge: EdgeCache, tmp_path: Path) -> None:
    name, _ = create_edge(site.server, edge.url, serves=["127.0.0.0/8"])
    time.sleep(3)  # until every server has read its edges again
    before = len(edge.requests)
    with proxy_of(site, tmp_path, None) as proxy:
        assert proxy.pull(site.mint(IMAGE))[0] == IMAGE.digest
    assert len(edge.requests) > before
    site.server.operator.call("DELETE", f"/edges/{name}").expect(204)


@pytest.mark.parametrize("mode", ["flip", *(pytest.param(mode, marks=pytest.mark.full) for mode in OTHERS)])
@pytest.mark.timeout(300)
def test_a_hostile_edge_gives_no_wrong_image(site: Site, edge: EdgeCache, tmp_path: Path, mode: str) -> None:
    token = site.mint(IMAGE)
    layers = [each["digest"] for each in json.loads(IMAGE.manifest)["layers"]]
    with ExitStack() as stack:
        encrypted = [each["digest"] for each in ciphertexts(site)]
        others = dict(zip(encrypted, reversed(encrypted), strict=True))
        hostile = stack.enter_context(HostileEdge(edge.url, mode, others))
        proxy = stack.enter_context(proxy_of(site, tmp_path, hostile.url))
        for layer in layers:
            began = time.monotonic()
            try:
                body = proxy.get(f"blobs/{layer}", token).expect(200).body
            except (IncompleteRead, OSError):
                assert mode in {"flip", "swap"}
                resumed = proxy.get(f"blobs/{layer}", token, Range=f"bytes={MIB}-").expect(200)
                body = resumed.body
            assert time.monotonic() - began < LONGEST_S
            assert body == IMAGE.blobs[layer]
        assert hostile.requests
        assert not any("Authorization" in headers for headers in hostile.requests)
        log = proxy.log.read_text()
        assert ("edge_distrusted" if mode in {"flip", "swap"} else "edge_failed") in log
        assert proxy.pull(site.mint(IMAGE))[0] == IMAGE.digest


def ciphertexts(site: Site) -> list[dict[str, str]]:
    """Return the encrypted layers of the image, as a session sees them."""
    shop = Shop(site.server, site.organization, site.node, site.groups[IMAGE.name], IMAGE)
    answer = shop.get("manifests/latest", shop.bearer(site.mint(IMAGE))).expect(200)
    return list(json.loads(answer.body)["layers"])


@pytest.mark.full
def test_a_dead_edge_costs_nothing(site: Site, tmp_path: Path) -> None:
    with proxy_of(site, tmp_path, f"http://localhost:{free_port()}") as proxy:
        began = time.monotonic()
        assert proxy.pull(site.mint(IMAGE))[0] == IMAGE.digest
        assert time.monotonic() - began < LONGEST_S


@pytest.mark.full
def test_an_edge_that_is_killed_midway_leaves_the_rest_to_the_registry(site: Site, tmp_path: Path) -> None:
    token, size = site.mint(LARGE), size_of(LARGE)
    cache = EdgeCache(site.server)
    _, key = create_edge(site.server, cache.url)
    with (
        cache.start(key),
        SlowLink(cache.port, 30 * MIB) as link,
        CuttingRelay(site.server.port) as registry,
        proxy_of(site, tmp_path, f"http://localhost:{link.port}", f"http://{registry.host}") as proxy,
        ThreadPoolExecutor(1) as pool,
    ):
        pulled = pool.submit(proxy.pull, token)
        wait_until(lambda: link.delivered_bytes > size // 2, timeout_s=60, what="half of the image")
        cache.stop()
        assert pulled.result(60)[0] == LARGE.digest
        assert size // 4 < registry.delivered_bytes < size
        assert registry.delivered_bytes + link.delivered_bytes < 1.05 * size


@pytest.mark.full
@pytest.mark.timeout(600)
def test_twenty_nodes_behind_an_edge_cost_the_registry_one_image(site: Site, tmp_path: Path) -> None:
    cache = EdgeCache(site.server)
    _, key = create_edge(site.server, cache.url)
    keys = [KeyPair.p256() for _ in range(20)]
    nodes = [site.server.operator.create_node(encryption_key=each.public, runtime="proxy") for each in keys]
    site.mint(LARGE)
    group = site.groups[LARGE.name]
    before, size = sent_to_edges(site.server), size_of(LARGE)
    with (
        cache.start(key),
        CuttingRelay(site.server.port) as relay,
        ExitStack() as stack,
        ThreadPoolExecutor(20) as pool,
    ):
        pulls = []
        for number, (node, pair) in enumerate(zip(nodes, keys, strict=True)):
            url = f"http://{relay.host}"
            folder = tmp_path / str(number)
            options = [f"--edge={cache.url}"]
            proxy = NodeProxy.with_secret(folder, url, node, pair.private, options=options)
            stack.enter_context(proxy)
            token = site.server.operator.mint(site.organization, group, node, encryption="required")
            pulls.append(pool.submit(proxy.pull, token))
        assert {pull.result(300)[0] for pull in pulls} == {LARGE.digest}
        to_edges = sent_to_edges(site.server) - before
        assert to_edges == size
        documents = relay.delivered_bytes
    assert to_edges + documents <= 1.01 * size
