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
from tests.support.certified import Certified
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
        return NodeProxy.with_secret(
            folder, registry or self.server.url, self.node, self.keys.private, port=port
        )


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


def test_a_client_can_name_the_original_digest_and_every_platform(site: Site, proxy: NodeProxy) -> None:
    image = images.multi_platform()
    token = site.mint(image)
    index = proxy.get(f"manifests/{image.digest}", token).expect(200)
    assert index.body == image.manifest
    child = proxy.get(f"manifests/{image.children[0].digest}", token, method="HEAD").expect(200)
    assert child.headers["Content-Length"] == str(len(image.children[0].manifest))
    proxy.get(f"manifests/{image.children[1].digest}", token).expect(404)  # linux/arm64 was not imported
    proxy.get(f"manifests/sha256:{'0' * 64}", token).expect(404)
    proxy.get(f"blobs/sha256:{'0' * 64}", token).expect(404)
    proxy.get("blobs/sha256:0", token).expect(400)


def test_a_signature_is_found_by_the_original_digest(site: Site, proxy: NodeProxy) -> None:
    """As `cosign verify` looks for it; what it signs is the digest that the client has."""
    image = images.build("acme/proxied-signed", images.runnable().layers, cmd=["ls"])
    signature = images.build(image.name, [images.Layer.raw(image.digest.encode())])
    tag = f"{image.digest.replace(':', '-')}.sig"
    site.upstream.push(signature, tag)
    token = site.mint(image)
    assert proxy.get("manifests/latest", token).expect(200).body == image.manifest
    found = proxy.get(f"manifests/{tag}", token).expect(200)
    assert found.body == signature.manifest
    payload = found.json()["layers"][0]["digest"]
    assert proxy.get(f"blobs/{payload}", token).expect(200).body == image.digest.encode()


def test_an_enrolled_machine_needs_no_options(certified: Certified, tmp_path: Path) -> None:
    operator = certified.server.operator
    node_id, secret = operator.create_certified_node()
    argv = [str(CRISPER), "node", "enroll", certified.url, node_id, "--ca", str(certified.tls.ca)]
    argv += ["--root", str(tmp_path), "--runtime", "proxy"]
    enrolled = run(argv, env={"CRISPER_ENROLMENT_SECRET": secret}).check()
    assert "crisper-node-proxy" in enrolled.output
    with NodeProxy(tmp_path, [f"--root={tmp_path}"]) as machine:
        for _ in range(2):
            token = operator.mint(certified.organization, certified.group, Node(node_id, ""))
            assert token.key_thumbprint
            digest, _, _ = machine.pull(token)
            assert digest in images.multi_platform().digests
            run([str(CRISPER), "node", "renew", "--force", "--root", str(tmp_path)]).check()


def test_the_zstd_variant_is_served_as_it_is_stored(site: Site, proxy: NodeProxy) -> None:
    token = site.mint(images.compressible(), variant="zstd")
    _, manifest, blobs = proxy.pull(token)
    assert "application/vnd.oci.image.layer.v1.tar+zstd" in {each["mediaType"] for each in manifest["layers"]}
    assert len(blobs) == 1 + len({each["digest"] for each in manifest["layers"]})


def test_ranges_of_a_layer_are_ranges_of_its_plaintext(site: Site, proxy: NodeProxy) -> None:
    image = images.compressible()
    token = site.mint(image)
    for layer in json.loads(image.manifest)["layers"]:
        name, size = layer["digest"], layer["size"]
        for start in {0, 1, 15, 16, 17, size // 2, size - 1}:
            part = proxy.get(f"blobs/{name}", token, Range=f"bytes={start}-").expect(206)
            assert part.body == image.blobs[name][start:]
        head = proxy.get(f"blobs/{name}", token, method="HEAD").expect(200)
        assert head.headers["Content-Length"] == str(size)
        proxy.get(f"blobs/{name}", token, Range=f"bytes={size}-").expect(416)


def test_a_token_is_for_one_pull(site: Site, proxy: NodeProxy) -> None:
    token = site.mint(images.docker_schema2())
    proxy.pull(token)
    wait_until(lambda: site.server.operator.token_state(token) == "done", timeout_s=10, what="complete")
    refused = proxy.get("manifests/latest", token)
    assert refused.status == 403
    assert "401" in refused.json()["errors"][0]["message"]


def test_a_second_pull_sends_no_layer(site: Site, tmp_path: Path) -> None:
    with CuttingRelay(site.server.port) as relay, site.proxy(tmp_path, f"http://{relay.host}") as proxy:
        proxy.pull(site.mint(LARGE))
        before = relay.delivered_bytes
        proxy.pull(site.mint(LARGE))
        assert relay.delivered_bytes - before < MIB


class TestAccess:
    """Only a client on this machine that knows the secret, under the proxy's own name."""

    def test_docker_login_needs_the_secret(self, proxy: NodeProxy) -> None:
        url = f"http://{proxy.host}/v2/"
        assert request("GET", url).status == 401
        assert request("GET", url).headers["WWW-Authenticate"].startswith("Basic ")
        assert request("GET", url, headers={"Authorization": basic("node", f"~{proxy.secret}")}).status == 200

    def test_a_token_without_this_users_secret_gets_nothing(
        self, site: Site, proxy: NodeProxy, tmp_path: Path
    ) -> None:
        token = site.mint(images.docker_schema2())
        with site.proxy(tmp_path) as other:
            secret = other.secret
        for password in (token.token, f"{token.token}~{secret}", f"{token.token}~", f"{proxy.secret}~x", ""):
            answer = proxy.get("manifests/latest", token, Authorization=basic(token.username, password))
            assert answer.status == 401
        for header in ("", "Basic", "Basic !", "Basic /w==", f"Bearer {proxy.secret}", "Digest x"):
            assert proxy.get("manifests/latest", token, Authorization=header).status == 401
        assert site.server.operator.token_state(token) == "minted"

    @pytest.mark.parametrize("host", ["evil.example", "evil.example:5100", "127.0.0.1", "127.0.0.1:1", ""])
    def test_another_host_is_refused(self, site: Site, proxy: NodeProxy, host: str) -> None:
        token = site.mint(images.docker_schema2())
        answer = proxy.get("manifests/latest", token, Host=host)
        assert answer.status == 403
        assert "another host" in answer.json()["errors"][0]["message"]

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (["--listen=0.0.0.0:5100"], "loopback"),
            (["--listen=203.0.113.1:5100"], "loopback"),
            (["--registry=http://registry.example.com"], "https://"),
            (["--listen=5100"], "HOST:PORT"),
        ],
    )
    def test_unsafe_settings_are_refused(self, tmp_path: Path, options: list[str], reason: str) -> None:
        argv = [str(CRISPER), "node", "proxy", "--registry=https://registry.example.com", "--node-id=n"]
        argv += [f"--cache={tmp_path / 'cache'}", f"--secret={tmp_path / 'secret'}", f"--root={tmp_path}"]
        refused = run([*argv, *options], env={"CRISPER_NODE_SECRET": "s"})
        assert refused.returncode == 1
        assert reason in refused.output

    def test_a_secret_that_everyone_can_read_is_refused(self, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_text("x" * 43)
        secret.chmod(0o644)
        argv = [str(CRISPER), "node", "proxy", "--registry=https://registry.example.com", "--node-id=n"]
        argv += [f"--cache={tmp_path / 'cache'}", f"--secret={secret}", f"--root={tmp_path}"]
        refused = run(argv, env={"CRISPER_NODE_SECRET": "s"})
        assert refused.returncode == 1
        assert "chmod 0600" in refused.output

    def test_files_are_private(self, proxy: NodeProxy) -> None:
        assert proxy.secret_file.stat().st_mode & 0o077 == 0
        assert proxy.cache.stat().st_mode & 0o077 == 0

    def test_a_second_proxy_on_the_same_cache_is_refused(self, site: Site, proxy: NodeProxy) -> None:
        argv = [str(CRISPER), "node", "proxy", f"--registry={site.server.url}", "--node-id=n"]
        argv += [f"--cache={proxy.cache}", f"--secret={proxy.secret_file}", "--listen=127.0.0.1:1"]
        refused = run(argv, env={"CRISPER_NODE_SECRET": "s"})
        assert "another proxy uses" in refused.output


def test_unencrypted_images_are_refused(site: Site, proxy: NodeProxy) -> None:
    token = site.mint(images.docker_schema2(), encryption="none")
    refused = proxy.get("manifests/latest", token)
    assert refused.status == 403
    assert "unencrypted layers" in refused.json()["errors"][0]["message"]


def test_a_node_with_another_key_says_why(site: Site, tmp_path: Path) -> None:
    with NodeProxy.with_secret(tmp_path, site.server.url, site.node, KeyPair.p256().private) as proxy:
        refused = proxy.get("manifests/latest", site.mint(images.docker_schema2()))
    assert refused.status == 403
    assert "its key was wrapped for" in refused.json()["errors"][0]["message"]


def test_the_cache_and_the_log_have_neither_plaintext_nor_secrets(site: Site, tmp_path: Path) -> None:
    token = site.mint(LARGE)
    with site.proxy(tmp_path) as proxy:
        _, _, blobs = proxy.pull(token)
        secret = proxy.secret
    files = [path for path in proxy.cache.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) > sum(map(len, blobs.values())) * 0.99
    windows = [blob[at : at + 64] for blob in blobs.values() for at in range(0, len(blob) - 64, MIB)]
    found = [path.read_bytes() for path in (*files, proxy.log)]
    assert not any(window in content for content in found for window in windows)
    hidden = [text.encode() for text in (token.token, secret, site.node.secret)]
    assert not any(text in content for content in found for text in hidden)


def test_a_line_that_drops_ten_times_costs_less_than_2_percent(site: Site, tmp_path: Path) -> None:
    token = site.mint(LARGE)
    size = sum(len(layer.gzipped) for layer in LARGE.layers)
    with (
        SlowLink(site.server.port, 20 * MIB) as link,
        site.proxy(tmp_path, f"http://{link.host}") as proxy,
        ThreadPoolExecutor(1) as pool,
    ):
        pulled, cuts = pool.submit(proxy.pull, token), 0
        while cuts < 10:
            wait_until(
                lambda: link.delivered_bytes > (cuts + 1) * size // 12,  # noqa: B023
                timeout_s=60,
                what="progress",
                interval_s=0.01,
            )
            link.cut_all()
            cuts += 1
        pulled.result(60)
        assert size <= link.delivered_bytes < 1.02 * size


def test_a_killed_proxy_continues(site: Site, tmp_path: Path) -> None:
    token = site.mint(LARGE)
    size = sum(len(layer.gzipped) for layer in LARGE.layers)
    with SlowLink(site.server.port, 20 * MIB) as link:
        first = site.proxy(tmp_path, f"http://{link.host}")
        with ThreadPoolExecutor(1) as pool:
            pulled = pool.submit(proxy_pull, first, token)
            wait_until(lambda: link.delivered_bytes > size // 2, timeout_s=60, what="half of the image")
            first.kill9()
            assert pulled.result(30) is None
        with site.proxy(tmp_path, f"http://{link.host}", first.port) as second:
            digest, _, _ = second.pull(token)
        assert digest == LARGE.digest
        assert size <= link.delivered_bytes < 1.02 * size


def proxy_pull(proxy: NodeProxy, token: PullToken) -> object:
    """Pull through a proxy that may be killed meanwhile; None if it was."""
    with suppress(OSError, IncompleteRead):
        return proxy.pull(token)
    return None


def test_many_pulls_of_a_layer_fetch_it_once(site: Site, tmp_path: Path) -> None:
    tokens = [site.mint(LARGE, group=group) for group in ("", "", "-other", "-other")]
    size = sum(len(layer.gzipped) for layer in LARGE.layers)
    with (
        SlowLink(site.server.port, 40 * MIB) as link,
        site.proxy(tmp_path, f"http://{link.host}") as proxy,
        ThreadPoolExecutor(len(tokens)) as pool,
    ):
        assert {digest for digest, _, _ in pool.map(proxy.pull, tokens)} == {LARGE.digest}
        assert link.delivered_bytes < 1.02 * size


class FlippingRelay(CuttingRelay):
    """Flips a bit in every chunk of answers that are larger than any document."""

    flips = True

    def alter(self, chunk: bytes, answered: int) -> bytes:
        return bytes([chunk[0] ^ 1]) + chunk[1:] if self.flips and answered > MIB else chunk


def test_hostile_bytes_are_never_a_whole_layer(site: Site, tmp_path: Path) -> None:
    token = site.mint(LARGE)
    layer = json.loads(LARGE.manifest)["layers"][0]["digest"]
    with FlippingRelay(site.server.port) as relay, site.proxy(tmp_path, f"http://{relay.host}") as proxy:
        with pytest.raises((IncompleteRead, OSError)):
            proxy.get(f"blobs/{layer}", token)
        assert "does not match its HMAC or digest" in proxy.log.read_text()
        relay.flips = False
        assert proxy.get(f"blobs/{layer}", token).expect(200).body == LARGE.blobs[layer]


class RecordingRelay(CuttingRelay):
    """Keeps all answers."""

    def __init__(self, target_port: int) -> None:
        self.recorded: list[bytes] = []
        super().__init__(target_port)

    def alter(self, chunk: bytes, answered: int) -> bytes:
        del answered
        self.recorded.append(chunk)
        return chunk


def test_nothing_but_ciphertext_crosses_the_wire(site: Site, tmp_path: Path) -> None:
    token = site.mint(LARGE)
    with RecordingRelay(site.server.port) as relay, site.proxy(tmp_path, f"http://{relay.host}") as proxy:
        _, manifest, blobs = proxy.pull(token)
    config = blobs.pop(manifest["config"]["digest"])
    recorded = b"".join(relay.recorded)
    assert config in recorded
    assert len(recorded) > sum(map(len, blobs.values()))
    windows = (blob[at : at + 32] for blob in blobs.values() for at in range(0, len(blob) - 32, MIB // 4))
    assert not any(window in recorded for window in windows)
