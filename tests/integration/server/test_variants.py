"""An image in two encodings: what nodes get, what each token admits, and what keeps both alive."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import zstandard

from tests.integration.server.conftest import Shop, open_shop
from tests.support import images
from tests.support.crisper import CRISPER, CrisperServer, Node, PullToken
from tests.support.http import request
from tests.support.images import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Image, Layer, digest_of
from tests.support.processes import Result, run
from tests.support.upstream import Upstream

ZSTD_LAYER = "application/vnd.oci.image.layer.v1.tar+zstd"


def lying(name: str, layer: Layer) -> Image:
    """Build an image whose only layer is not what its config says."""
    return images.build(name, [Layer(b"something else", layer.gzipped)])


@cache
def indexed() -> Image:
    """Build an index over the compressible image."""
    name, inner = "acme/indexed", images.compressible()
    entry = {
        "mediaType": inner.media_type,
        "digest": inner.digest,
        "size": len(inner.manifest),
        "platform": {"os": "linux", "architecture": "amd64"},
    }
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    return Image(name, OCI_INDEX, index, inner.blobs, inner.layers, (inner,))


@pytest.fixture(scope="module")
def anonymous(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    with Upstream.anonymous(tmp_path_factory.mktemp("anonymous")) as registry:
        registry.push(images.compressible())
        registry.push(images.random_layers())
        registry.push(indexed())
        registry.push(images.zstd_only())
        registry.push(lying("acme/lying", images.compressible().layers[0]))
        yield registry


@dataclass(frozen=True)
class Both(Shop):
    """A shop whose image comes in both variants."""

    def minted(self, variant: str, node: Node | None = None) -> PullToken:
        node = node or self.node
        return self.server.operator.mint(self.organization, self.group, node, variant=variant)

    def manifest(self, bearer: str, reference: str = "latest") -> dict[str, Any]:
        return dict(self.get(f"manifests/{reference}", bearer).expect(200).json())

    def crisper(self, *arguments: str) -> Result:
        return run([str(CRISPER), *arguments, "--data-dir", str(self.server.data_dir)])


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, anonymous: Upstream) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("variants") / "server"
    env = {"CRISPER_GC_INTERVAL_S": "0"}
    with CrisperServer(folder, insecure_registries=[anonymous.host], env=env) as server:
        shop = open_shop(server, anonymous, images.compressible())
        yield Both(server, shop.organization, shop.node, shop.group, shop.image)


def tars(both: Both, bearer: str, manifest: dict[str, Any]) -> list[bytes]:
    found = []
    for layer in manifest["layers"]:
        blob = both.get(f"blobs/{layer['digest']}", bearer).expect(200).body
        assert (digest_of(blob), len(blob)) == (layer["digest"], layer["size"])
        if layer["mediaType"] == ZSTD_LAYER:
            found.append(zstandard.ZstdDecompressor().stream_reader(blob, read_across_frames=True).read())
        else:
            found.append(next(each.tar for each in both.image.layers if each.gzipped == blob))
    return found


def test_a_token_for_zstd_brings_the_same_image_in_less_bytes(both: Both) -> None:
    token = both.minted("zstd")
    assert token.variant == "zstd"
    assert token.digest not in both.image.digests
    bearer = both.bearer(token)
    answer = both.get("manifests/latest", bearer).expect(200)
    assert digest_of(answer.body) == token.digest == answer.headers["Docker-Content-Digest"]
    assert answer.headers["Content-Type"] == OCI_MANIFEST
    manifest = answer.json()
    original = json.loads(both.image.manifest)
    assert manifest["config"] == original["config"] | {"mediaType": OCI_CONFIG}
    assert manifest["annotations"] == {"vnd.crisper.original.digest": both.image.digest}
    assert [layer["mediaType"] == ZSTD_LAYER for layer in manifest["layers"][-3:]] == [True, True, False]
    assert tars(both, bearer, manifest) == [layer.tar for layer in both.image.layers]
    config = both.get(f"blobs/{manifest['config']['digest']}", bearer).expect(200).body
    assert config == both.image.blobs[original["config"]["digest"]]
    shown = both.server.operator.call("GET", f"/pull-tokens/{token.token_id}").expect(200).json()
    assert shown["image"]["variant"] == "zstd"
    assert shown["session"]["blobs"] == {"complete": 7, "total": 7}
    assert shown["session"]["bytes_delivered"] == shown["image"]["size"]
    assert shown["image"]["size"] < sum(len(layer.gzipped) for layer in both.image.layers)


def test_each_token_admits_its_own_variant_and_nothing_of_the_other(both: Both) -> None:
    original, zstd = both.minted("original"), both.minted("zstd")
    ours, theirs = both.bearer(original), both.bearer(zstd)
    old, new = both.manifest(ours), both.manifest(theirs)
    only_old = {layer["digest"] for layer in old["layers"]} - {layer["digest"] for layer in new["layers"]}
    only_new = {layer["digest"] for layer in new["layers"]} - {layer["digest"] for layer in old["layers"]}
    assert only_old
    assert only_new
    for digest in only_old:
        both.get(f"blobs/{digest}", ours, method="HEAD").expect(200)
        both.get(f"blobs/{digest}", theirs).expect(404)
    for digest in only_new:
        both.get(f"blobs/{digest}", theirs, method="HEAD").expect(200)
        both.get(f"blobs/{digest}", ours).expect(404)
    both.get(f"manifests/{zstd.digest}", ours).expect(404)
    both.get(f"manifests/{original.digest}", theirs).expect(404)
    assert set(both.causes(zstd)) == set(both.causes(original)) == {"outside_scope"}


def test_the_version_tag_names_the_variant_that_the_token_is_for(both: Both) -> None:
    for variant in ("original", "zstd"):
        token = both.minted(variant)
        bearer = both.bearer(token)
        for reference in ("latest", "v1", token.digest):
            answer = both.get(f"manifests/{reference}", bearer).expect(200)
            assert answer.headers["Docker-Content-Digest"] == token.digest
        both.get("manifests/v2", bearer).expect(404)
        assert both.get("tags/list", bearer).expect(200).json()["tags"] == ["latest", "v1"]
        referrers = both.get(f"referrers/{token.digest}", bearer).expect(200)
        assert referrers.json() == {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}


def test_auto_goes_by_what_is_known_of_the_node(both: Both) -> None:
    operator = both.server.operator
    reads, does_not = operator.create_node(zstd=True), operator.create_node(zstd=False)
    assert operator.call("GET", f"/nodes/{reads.node_id}").json()["zstd"] is True
    assert both.minted("auto", reads).variant == "zstd"
    assert both.minted("auto", does_not).variant == "original"
    assert both.minted("auto").variant == "original"
    assert both.minted("zstd", does_not).variant == "zstd"
    assert both.minted("original", reads).variant == "original"


def test_an_image_that_does_not_gain_is_designated_as_it_is(both: Both, anonymous: Upstream) -> None:
    customer = both.server.customer(both.organization)
    group = customer.import_image(anonymous.reference(images.random_layers()))
    token = both.server.operator.mint(both.organization, group, both.node, variant="zstd")
    assert (token.variant, token.digest) == ("original", images.random_layers().digest)


def test_an_index_has_its_platforms_manifest_for_a_variant(both: Both, anonymous: Upstream) -> None:
    customer = both.server.customer(both.organization)
    group = customer.import_image(anonymous.reference(indexed()))
    token = both.server.operator.mint(both.organization, group, both.node, variant="zstd")
    assert (token.variant, token.digest) == ("zstd", both.minted("zstd").digest)
    shop = Shop(both.server, both.organization, both.node, group, indexed())
    bearer = shop.bearer(token)
    manifest = shop.get("manifests/latest", bearer).expect(200).json()
    assert manifest["annotations"]["vnd.crisper.original.digest"] == both.image.digest
    shop.get(f"manifests/{indexed().digest}", bearer).expect(404)
    metrics = request("GET", f"{both.server.url}/metrics").body.decode()
    assert 'crisper_compressed_layers_total{outcome="known"} 6.0' in metrics


def test_an_image_whose_layers_are_not_what_its_config_says_fails_to_pull(
    both: Both, anonymous: Upstream
) -> None:
    customer = both.server.customer(both.organization)
    group = customer.create_group(f"{anonymous.host}/acme/lying:latest")
    state = customer.wait_settled(group)["current_state"]
    assert state["status"] == "failed"
    assert state["description"].startswith("failed to pull: the layer sha256:")
    assert "push the image again" in state["description"]


def test_the_gain_is_shown_told_and_logged(both: Both) -> None:
    listed = json.loads(
        both.crisper("image", "list", "--organization", both.organization.name, "--json").check().output
    )
    [shown] = [image for image in listed if image["digest"] == both.image.digest]
    token = both.minted("zstd")
    assert shown["zstd"]["digest"] == token.digest
    assert shown["zstd"]["size"] < shown["size"]
    assert shown["gain"] == round(1 - shown["zstd"]["size"] / shown["size"], 4)
    [event, *_] = both.server.operator.events(type="group.imported", organization_name=both.organization.name)
    assert event["detail"]["zstd"] == shown["zstd"]
    assert '"gain_percent": ' in both.server.log.read_text()


def test_collection_and_inspection_know_the_blobs_of_both(both: Both) -> None:
    both.crisper("gc", "--grace", "0").check()
    for variant in ("original", "zstd"):
        bearer = both.bearer(both.minted(variant))
        assert tars(both, bearer, both.manifest(bearer)) == [layer.tar for layer in both.image.layers]
    both.crisper("doctor").check()


def damage_variant(both: Both) -> str:
    """Damage a zstd layer in storage and have it found; return its digest."""
    manifest = both.manifest(both.bearer(both.minted("zstd")))
    digest = next(layer["digest"] for layer in manifest["layers"] if layer["mediaType"] == ZSTD_LAYER)
    with closing(sqlite3.connect(both.server.data_dir / "catalog.db")) as catalog:
        query = "SELECT object_name FROM blob_keys WHERE digest = ?"
        [(name,)] = catalog.execute(query, (digest,))
    path = both.server.data_dir / "blobs" / "objects" / name[:2] / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert json.loads(both.crisper("scrub", "--restart", "--rate=0", "--json").output)["damaged"] == 1
    return str(digest)


def repaired(both: Both, anonymous: Upstream, **env: str) -> set[str]:
    """Repair; return what stands against it, for all groups that share the layer."""
    argv = ["scrub", "--restart", "--rate=0", "--repair", "--json", "--insecure-registry", anonymous.host]
    done = run([str(CRISPER), *argv, "--data-dir", str(both.server.data_dir)], timeout_s=100, env=env)
    document = json.loads(done.output[done.output.index("{") :])
    assert (done.returncode == 0) == (not any(each["problem"] for each in document["repairs"]))
    return {each["problem"] for each in document["repairs"]}


def test_a_damaged_zstd_layer_is_encoded_anew_by_a_repair(both: Both, anonymous: Upstream) -> None:
    digest = damage_variant(both)
    both.get(f"blobs/{digest}", both.bearer(both.minted("zstd"))).expect(500)
    assert repaired(both, anonymous) == {""}
    bearer = both.bearer(both.minted("zstd"))
    manifest = both.manifest(bearer)
    assert digest in {layer["digest"] for layer in manifest["layers"]}
    assert tars(both, bearer, manifest) == [layer.tar for layer in both.image.layers]
    both.crisper("doctor").check()


@pytest.mark.parametrize("setting", [{"CRISPER_COMPRESS": "false"}, {"CRISPER_COMPRESS_LEVEL": "1"}])
def test_a_repair_that_makes_no_such_layer_says_so_and_what_to_do(
    both: Both, anonymous: Upstream, setting: dict[str, str]
) -> None:
    digest = damage_variant(both)
    (problem,) = repaired(both, anonymous, **setting)
    assert problem.startswith("the image is intact, but its zstd variant is damaged: with compression on")
    original = both.bearer(both.minted("original"))
    assert tars(both, original, both.manifest(original)) == [layer.tar for layer in both.image.layers]
    both.server.customer(both.organization).import_image(anonymous.reference(both.image))
    bearer = both.bearer(both.minted("zstd"))
    both.get(f"blobs/{digest}", bearer).expect(200)
    assert tars(both, bearer, both.manifest(bearer)) == [layer.tar for layer in both.image.layers]


@pytest.mark.parametrize(
    ("supported", "variant", "pushed_in_zstd", "status"),
    [
        (True, "auto", True, 201),
        (None, "auto", True, 201),
        (False, "auto", True, 409),
        (False, "original", True, 409),
        (False, "zstd", True, 201),  # the operator knows better than the record
        (False, "original", False, 201),
        (False, "auto", False, 201),
    ],
)
def test_a_node_without_zstd_support_gets_no_token_for_zstd_layers(
    both: Both,
    anonymous: Upstream,
    *,
    supported: bool | None,
    variant: str,
    pushed_in_zstd: bool,
    status: int,
) -> None:
    operator, group = both.server.operator, both.group
    if pushed_in_zstd:
        customer = both.server.customer(both.organization)
        group = customer.create_group(anonymous.reference(images.zstd_only()))
        assert customer.wait_settled(group)["current_state"]["status"] == "stopped"
    node = operator.create_node(zstd=supported)
    body = {
        "organization_name": both.organization.name,
        "project_name": "default",
        "container_group_name": group,
        "node_id": node.node_id,
        "variant": variant,
    }
    answer = operator.call("POST", "/pull-tokens", body).expect(status)
    assert ("push the image with gzip layers" in answer.body.decode()) is (status == 409)
