"""An edge cache (nginx, as shipped) before a real server: what it may read, and what nodes get from it."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.integration.server.conftest import open_shop
from tests.integration.server.test_encrypted_delivery import Keyed
from tests.support import images
from tests.support.crisper import CRISPER, CrisperServer, unique
from tests.support.edge import SHIPPED, EdgeCache, metric
from tests.support.encrypted import KeyPair
from tests.support.http import Response, request
from tests.support.processes import free_port, run, wait_until
from tests.support.upstream import Upstream

MIB = 1 << 20
SLICE = 4 * MIB


def keyed(server: CrisperServer, upstream: Upstream, image: images.Image) -> Keyed:
    upstream.push(image)
    keys, shop = KeyPair.p256(), open_shop(server, upstream, image)
    node = server.operator.create_node(encryption_key=keys.public, runtime="containerd")
    return Keyed(server, shop.organization, node, shop.group, image, keys)


def create_edge(server: CrisperServer, url: str, **more: Any) -> tuple[str, str]:  # noqa: ANN401 (JSON)
    """Return an edge's name and key."""
    made = server.operator.call("POST", "/edges", {"name": unique("edge"), "url": url, **more}).expect(201)
    return made.json()["name"], made.json()["key"]


@pytest.fixture(scope="module")
def server(edge_server: CrisperServer) -> CrisperServer:
    return edge_server


@pytest.fixture(scope="module")
def shop(server: CrisperServer, upstream: Upstream) -> Keyed:
    return keyed(server, upstream, images.random_layers(3, 9 * MIB + 5, "acme/edge"))


@pytest.fixture
def edge(server: CrisperServer) -> Iterator[EdgeCache]:
    cache = EdgeCache(server)
    _, key = create_edge(server, cache.url)
    with cache.start(key):
        yield cache


def layers_of(shop: Keyed) -> list[dict[str, Any]]:
    return list(shop.manifest(shop.bearer(shop.mint_encrypted()))["layers"])


def fill(server: CrisperServer, key: str, digest: str, **headers: str) -> Response:
    sent = {"Authorization": f"Bearer {key}", **headers}
    return request("GET", f"{server.url}/edge/blobs/{digest}", headers=sent)


def sent_to_edges(server: CrisperServer) -> float:
    return metric(request("GET", f"{server.url}/metrics").body.decode(), "crisper_edge_bytes_total")


class TestKey:
    def test_opens_ciphertext_and_nothing_else(self, server: CrisperServer, shop: Keyed) -> None:
        _, key = create_edge(server, "https://edge.example.net")
        bearer = shop.bearer(shop.mint_encrypted())
        manifest = shop.manifest(bearer)
        layer = manifest["layers"][0]
        whole = fill(server, key, layer["digest"]).expect(200)
        assert "sha256:" + hashlib.sha256(whole.body).hexdigest() == layer["digest"]
        assert whole.headers["ETag"] == f'"{layer["digest"]}"'
        part = fill(server, key, layer["digest"], Range="bytes=5-9").expect(206)
        assert part.body == whole.body[5:10]
        known = {"If-None-Match": str(whole.headers["ETag"])}
        fill(server, key, layer["digest"], **known).expect(304)
        plain = [*shop.image.blobs, shop.image.digest, f"sha256:{'0' * 64}", manifest["config"]["digest"]]
        for digest in plain:
            fill(server, key, digest).expect(404)
        fill(server, key, "sha256:0").expect(400)
        fill(server, key, layer["digest"], Range="bytes=0-1,5-6").expect(416)
        for path in ("/v2/", f"/v2/{shop.repository}/manifests/latest", "/api/v1/nodes", "/api/v1/edges"):
            request("GET", f"{server.url}{path}", headers={"Authorization": f"Bearer {key}"}).expect(401)

    def test_others_are_refused_and_recorded(self, server: CrisperServer, shop: Keyed) -> None:
        digest = layers_of(shop)[0]["digest"]
        bearer = shop.bearer(shop.mint_encrypted())
        url = f"{server.url}/edge/blobs/{digest}"
        request("GET", url).expect(401)
        for wrong in (bearer, server.operator_key, shop.organization.api_key, "crisper_edge_guess", ""):
            answer = fill(server, wrong, digest).expect(401)
            assert answer.headers["Content-Type"].startswith("application/problem+json")
        refused = server.operator.events(type="api_key.refused")
        assert "edge" in {event["detail"].get("api") for event in refused}

    def test_is_refused_at_once_after_the_edge_is_deleted(self, server: CrisperServer, shop: Keyed) -> None:
        name, key = create_edge(server, "https://gone.example.net")
        digest = layers_of(shop)[0]["digest"]
        fill(server, key, digest, Range="bytes=0-0").expect(206)
        server.operator.call("DELETE", f"/edges/{name}").expect(204)
        fill(server, key, digest, Range="bytes=0-0").expect(401)
        server.operator.call("DELETE", f"/edges/{name}").expect(404)
        kinds = ("edge.created", "edge.filled", "edge.revoked")
        for kind in kinds:
            details = [event["detail"] for event in server.operator.events(type=kind)]
            assert name in {detail["edge"] for detail in details}
        assert key not in server.log.read_text()

    def test_is_bound_to_networks(self, server: CrisperServer, shop: Keyed) -> None:
        digest = layers_of(shop)[0]["digest"]
        _, far = create_edge(server, "https://far.example.net", networks=["192.0.2.0/24"])
        fill(server, far, digest).expect(403)
        _, near = create_edge(server, "https://near.example.net", networks=["127.0.0.0/8"])
        fill(server, near, digest, Range="bytes=0-0").expect(206)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"url": "ftp://edge.example.net"},
            {"url": "https://user:word@edge.example.net"},
            {"url": "https://edge.example.net/path"},
            {"serves": ["10.0.0.1/8"]},
            {"networks": ["x"]},
            {"name": "UPPER"},
            {"more": 1},
        ],
    )
    def test_unacceptable_edges_are_refused(self, server: CrisperServer, wrong: dict[str, Any]) -> None:
        body = {"name": unique("edge"), "url": "https://edge.example.net", **wrong}
        server.operator.call("POST", "/edges", body).expect(400)

    def test_a_name_is_used_once(self, server: CrisperServer) -> None:
        name, _ = create_edge(server, "https://edge.example.net")
        body = {"name": name, "url": "https://edge.example.net"}
        server.operator.call("POST", "/edges", body).expect(409)


class TestCache:
    def test_sends_each_byte_once(self, server: CrisperServer, shop: Keyed, edge: EdgeCache) -> None:
        layers = layers_of(shop)
        before = sent_to_edges(server)

        def read(client: int) -> None:
            for number in range(len(layers)):
                layer = layers[(number + client) % len(layers)]
                path = "blobs" if client % 2 else f"v2/{shop.repository}/blobs"
                whole = request("GET", f"{edge.url}/{path}/{layer['digest']}?ns=registry.example.com")
                assert "sha256:" + hashlib.sha256(whole.expect(200).body).hexdigest() == layer["digest"]

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(read, range(8)))
        size = sum(layer["size"] for layer in layers)
        wait_until(lambda: edge.sent_bytes == 8 * size, timeout_s=10, what="the log is complete")
        assert sent_to_edges(server) - before == size

    def test_ranges_and_head(self, shop: Keyed, edge: EdgeCache) -> None:
        layer = layers_of(shop)[0]
        url = f"{edge.url}/blobs/{layer['digest']}"
        shown = request("HEAD", url).expect(200)
        assert int(shown.headers["Content-Length"]) == layer["size"]
        whole = request("GET", url).expect(200).body
        for first, last in ((0, 0), (SLICE - 1, SLICE), (SLICE + 7, 2 * SLICE + 9), (5, layer["size"] - 1)):
            part = request("GET", url, headers={"Range": f"bytes={first}-{last}"}).expect(206)
            assert part.body == whole[first : last + 1]
        tail = request("GET", url, headers={"Range": "bytes=-7"}).expect(206)
        assert tail.body == whole[-7:]

    def test_serves_nothing_else(self, shop: Keyed, edge: EdgeCache) -> None:
        digest = layers_of(shop)[0]["digest"]
        absent = [
            *("/", "/v2/", f"/v2/{shop.repository}/manifests/latest", "/edge/blobs/" + digest),
            *(f"/blobs/{digest}/x", "/blobs/../metrics", f"/blobs/{shop.image.digest}"),
            f"/v2/{shop.repository}/blobs/{json.loads(shop.image.manifest)['config']['digest']}",
        ]
        for path in absent:
            request("GET", f"{edge.url}{path}").expect(404)
        request("POST", f"{edge.url}/blobs/{digest}", body={}).expect(403, 413)

    def test_keeps_neither_credentials_nor_plaintext(self, shop: Keyed, edge: EdgeCache) -> None:
        layer = layers_of(shop)[0]
        sent = {"Authorization": "Bearer of-a-node", "Cookie": "x=of-a-node"}
        request("GET", f"{edge.url}/blobs/{layer['digest']}", headers=sent).expect(200)
        kept = [path.read_bytes() for path in edge.folder.rglob("*") if path.is_file()]
        assert not any(b"of-a-node" in content for content in kept)
        plain = shop.image.blobs[json.loads(shop.image.manifest)["layers"][0]["digest"]]
        windows = [plain[at : at + 64] for at in range(0, len(plain) - 64, MIB)]
        assert not any(window in content for content in kept for window in windows)

    def test_serves_what_it_has_while_the_key_is_refused(self, server: CrisperServer, shop: Keyed) -> None:
        cache = EdgeCache(server)
        name, key = create_edge(server, cache.url)
        layers = layers_of(shop)
        with cache.start(key):
            request("GET", f"{cache.url}/blobs/{layers[0]['digest']}").expect(200)
            server.operator.call("DELETE", f"/edges/{name}").expect(204)
            request("GET", f"{cache.url}/blobs/{layers[0]['digest']}").expect(200)
            request("GET", f"{cache.url}/blobs/{layers[1]['digest']}").expect(401)

    def test_forgets_what_is_purged(self, shop: Keyed, edge: EdgeCache) -> None:
        layers = layers_of(shop)
        for layer in layers[:2]:
            request("GET", f"{edge.url}/blobs/{layer['digest']}").expect(200)
        purge = [str(SHIPPED / "purge.sh"), "-d", str(edge.cache)]
        slices = -(-layers[0]["size"] // SLICE)
        assert f"removed {slices} slices" in run([*purge, layers[0]["digest"]]).check().output
        assert "removed 0 slices" in run([*purge, layers[0]["digest"]]).check().output
        wait_until(lambda: len(edge.requests) == 2, timeout_s=10, what="the log is complete")
        for layer in layers[:2]:
            request("GET", f"{edge.url}/blobs/{layer['digest']}").expect(200)
        wait_until(lambda: len(edge.requests) == 4, timeout_s=10, what="the log is complete")
        assert [each["cache"] for each in edge.requests[2:]] == ["MISS", "HIT"]
        assert run([*purge, "sha256:*"]).returncode == 2


class TestRedirect:
    def test_a_node_is_sent_to_its_edge_until_it_fails(
        self, server: CrisperServer, upstream: Upstream
    ) -> None:
        shop = keyed(server, upstream, images.random_layers())
        name, _ = create_edge(server, "https://edge.example.net", serves=["127.0.0.0/8"])
        create_edge(server, "https://other.example.net", serves=["192.0.2.0/24", "2001:db8::/32"])
        token = shop.mint_encrypted()
        bearer = shop.bearer(token)

        def named() -> str | None:
            answer = request("GET", f"{server.url}/v2/", headers={"Authorization": f"Bearer {bearer}"})
            edge: str | None = answer.expect(200).headers["Crisper-Edge"]
            return edge

        wait_until(lambda: named() == "https://edge.example.net", timeout_s=20, what="the edge is known")
        first, second = shop.manifest(bearer)["layers"][:2]
        answer = shop.get(f"blobs/{first['digest']}", bearer).expect(307)
        assert answer.headers["Location"] == f"https://edge.example.net/blobs/{first['digest']}"
        assert len(shop.get(f"blobs/{first['digest']}", bearer).expect(200).body) == first["size"]
        shop.get(f"blobs/{second['digest']}", bearer).expect(200)
        parts = shop.bearer(shop.mint_encrypted())
        layer = shop.manifest(parts)["layers"][0]["digest"]
        shop.get(f"blobs/{layer}", parts, Crisper_Edge="none").expect(200)
        shop.get(f"blobs/{layer}", parts, Range="bytes=7-").expect(307)
        shop.get(f"blobs/{layer}", parts, Range="bytes=9-").expect(307)
        shop.get(f"blobs/{layer}", parts, Range="bytes=7-").expect(206)
        config = shop.manifest(bearer)["config"]["digest"]
        shop.get(f"blobs/{config}", bearer).expect(200)
        plain = shop.bearer(server.operator.mint(shop.organization, shop.group, shop.node, encryption="none"))
        for layer in json.loads(shop.image.manifest)["layers"][:2]:
            shop.get(f"blobs/{layer['digest']}", plain).expect(200)
        server.operator.call("DELETE", f"/edges/{name}").expect(204)
        wait_until(lambda: named() is None, timeout_s=20, what="the edge is forgotten")
        another = shop.bearer(shop.mint_encrypted())
        shop.get(f"blobs/{second['digest']}", another).expect(200)


class TestPrefetch:
    def test_fills_the_edges_it_names(self, server: CrisperServer, shop: Keyed) -> None:
        caches = [EdgeCache(server) for _ in range(2)]
        made = [create_edge(server, cache.url) for cache in caches]
        names = [name for name, _ in made]
        dead, _ = create_edge(server, f"http://localhost:{free_port()}")
        layers = layers_of(shop)
        size = sum(layer["size"] for layer in layers)
        with caches[0].start(made[0][1]), caches[1].start("crisper_edge_wrong"):
            body = {"digest": shop.image.digest, "edges": [*names, dead]}
            before = sent_to_edges(server)
            result = server.operator.call("POST", "/prefetch", body).expect(200).json()
            full, refused, absent = result["edges"]
            assert (result["size"], result["layers"]) == (size, len(layers))
            assert full == {
                "edge": names[0],
                "bytes_done": size,
                "bytes_fetched": size,
                "is_complete": True,
                "problem": None,
            }
            assert "check its key" in refused["problem"]
            assert "does not answer" in absent["problem"]
            wait_until(lambda: sent_to_edges(server) - before == size, timeout_s=10, what="all was sent")
            for layer in layers:
                whole = request("GET", f"{caches[0].url}/blobs/{layer['digest']}").expect(200)
                assert len(whole.body) == layer["size"]
            assert sent_to_edges(server) - before == size
            again = server.operator.call("POST", "/prefetch", {**body, "start": SLICE + 1}).expect(200).json()
            assert again["edges"][0]["is_complete"]
            assert again["edges"][0]["bytes_fetched"] == 0

    def test_the_command_shows_each_edge(self, server: CrisperServer, shop: Keyed, edge: EdgeCache) -> None:
        listed = server.operator.call("GET", "/edges").expect(200).json()["items"]
        (name,) = [each["name"] for each in listed if each["url"] == edge.url]
        argv = [str(CRISPER), "edge", "prefetch", shop.image.digest, name, f"--data-dir={server.data_dir}"]
        shown = run(argv).check().output
        assert name in shown
        assert str(sum(layer["size"] for layer in layers_of(shop))) in shown
        assert run([*argv, "unknown"]).returncode == 1

    def test_refuses_what_it_cannot_do(self, server: CrisperServer, shop: Keyed) -> None:
        name, _ = create_edge(server, "https://edge.example.net")
        image = shop.image.digest
        for status, body in (
            (404, {"digest": image, "edges": ["unknown"]}),
            (409, {"digest": f"sha256:{'0' * 64}", "edges": [name]}),
            (400, {"digest": "x", "edges": [name]}),
            (400, {"digest": image, "edges": []}),
            (400, {"digest": image, "edges": ["e" + str(each) for each in range(17)]}),
        ):
            server.operator.call("POST", "/prefetch", body).expect(status)
