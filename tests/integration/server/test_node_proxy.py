"""`crisper node proxy` between a client and a real server."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from http.client import IncompleteRead
from pathlib import Path

import pytest

from tests.support import images
from tests.support.crisper import CRISPER, CrisperServer, Node, Organization, PullToken
from tests.support.cutting_relay import CuttingRelay
from tests.support.encrypted import KeyPair
from tests.support.http import basic, request
from tests.support.images import Image
from tests.support.node_proxy import NodeProxy
from tests.support.processes import run, wait_until
from tests.support.slow_link import SlowLink
from tests.support.upstream import Upstream

MIB = 1 << 20
IMAGES = (
    images.compressible(),
    images.zstd_only(),
    images.uncompressed(),
    images.docker_schema2(),
    images.multi_platform(),
)
LARGE = images.random_layers(2, 20 * MIB, "acme/large")


@dataclass(frozen=True)
class Site:
    """A server with images, and a node whose runtime is the proxy."""

    server: CrisperServer
    upstream: Upstream
    organization: Organization
    keys: KeyPair
    node: Node
    groups: dict[str, str]

    def mint(
        self, image: Image, *, variant: str = "original", encryption: str = "required", group: str = ""
    ) -> PullToken:
        name = f"{image.name}{group}"
        if name not in self.groups:
            self.upstream.push(image)
            self.groups[name] = self.server.customer(self.organization).import_image(
                self.upstream.reference(image), **self.upstream.login
            )
        return self.server.operator.mint(
            self.organization, self.groups[name], self.node, variant=variant, encryption=encryption
        )

    def proxy(self, folder: Path, registry: str | None = None, port: int | None = None) -> NodeProxy:
        return NodeProxy(folder, registry or self.server.url, self.node, self.keys.private, port=port)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("proxied")
    env = {"CRISPER_ORGANIZATION_CHANGES_PER_MINUTE": "0"}
    with CrisperServer(folder / "server", insecure_registries=[upstream.host], env=env) as server:
        keys = KeyPair.p256()
        node = server.operator.create_node(encryption_key=keys.public, runtime="proxy")
        yield Site(server, upstream, server.operator.create_organization(), keys, node, {})


@pytest.fixture(scope="module")
def proxy(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProxy]:
    with site.proxy(tmp_path_factory.mktemp("proxy")) as running:
        yield running


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_a_client_gets_the_original_image(site: Site, proxy: NodeProxy, image: Image) -> None:
    token = site.mint(image)
    digest, _, blobs = proxy.pull(token)
    assert digest == image.digest
    assert {name: image.blobs[name] for name in blobs} == blobs
    wait_until(lambda: site.server.operator.token_state(token) == "done", timeout_s=10, what="complete")
