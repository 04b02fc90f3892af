"""Encrypted delivery over HTTP: what a session gets, what its node can open, and what a thief cannot."""

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from jwcrypto.common import JWException

from registry.oci.encrypted_manifest import PLAINTEXT_DIGEST
from tests.integration.server.conftest import Shop, open_shop
from tests.support import images
from tests.support.crisper import CRISPER, CrisperServer, Node, PullToken
from tests.support.encrypted import KEYS, ORIGINAL, KeyPair
from tests.support.http import Response, request
from tests.support.processes import run, wait_until
from tests.support.upstream import Upstream

WINDOW_BYTES = 64


@dataclass(frozen=True)
class Keyed(Shop):
    """A shop whose node has an encryption key."""

    keys: KeyPair

    def mint_encrypted(self, node: Node | None = None, variant: str = "original") -> PullToken:
        operator = self.server.operator
        return operator.mint(
            self.organization, self.group, node or self.node, variant=variant, encryption="required"
        )

    def manifest(self, bearer: str, reference: str = "latest") -> dict[str, Any]:
        return dict(json.loads(self.get(f"manifests/{reference}", bearer).expect(200).body))

    def opened(self, bearer: str, manifest: dict[str, Any], keys: KeyPair | None = None) -> list[bytes]:
        layers = manifest["layers"]
        sent = [self.get(f"blobs/{each['digest']}", bearer).expect(200).body for each in layers]
        return [(keys or self.keys).open(*each) for each in zip(layers, sent, strict=True)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[CrisperServer]:
    folder = tmp_path_factory.mktemp("encrypted")
    env = {"CRISPER_WORKERS": "2", "CRISPER_ORGANIZATION_CHANGES_PER_MINUTE": "0"}
    with CrisperServer(folder / "server", insecure_registries=[upstream.host], env=env) as running:
        yield running


@pytest.fixture(scope="module")
def keyed(server: CrisperServer, upstream: Upstream) -> Keyed:
    return _keyed(server, upstream, images.compressible())


def _keyed(
    server: CrisperServer, upstream: Upstream, image: images.Image, keys: KeyPair | None = None
) -> Keyed:
    upstream.push(image)
    shop, keys = open_shop(server, upstream, image), keys or KeyPair.p256()
    node = server.operator.create_node(encryption_key=keys.public, runtime="containerd")
    return Keyed(server, shop.organization, node, shop.group, image, keys)


@pytest.mark.parametrize("keys", [KeyPair.p256(), KeyPair.rsa2048()], ids=["P-256", "RSA"])
@pytest.mark.parametrize("image", [images.compressible(), images.zstd_only(), images.docker_schema2()])
def test_the_node_opens_every_layer(
    server: CrisperServer, upstream: Upstream, image: images.Image, keys: KeyPair
) -> None:
    keyed = _keyed(server, upstream, image, keys)
    token = keyed.mint_encrypted()
    bearer = keyed.bearer(token)
    manifest = keyed.manifest(bearer)
    assert keyed.opened(bearer, manifest) == [image.blobs[layer] for layer in _layers(image)]
    assert {each["mediaType"].rpartition("+")[2] for each in manifest["layers"]} == {"encrypted"}
    assert manifest["config"]["digest"] in image.blobs
    assert manifest["annotations"][ORIGINAL] == image.digest
    answer = keyed.get("manifests/latest", bearer).expect(200)
    assert answer.headers["Docker-Content-Digest"] == token.digest
    assert "sha256:" + hashlib.sha256(answer.body).hexdigest() == token.digest
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_zstd_variant_is_encrypted_too(keyed: Keyed) -> None:
    bearer = keyed.bearer(keyed.mint_encrypted(variant="zstd"))
    manifest = keyed.manifest(bearer)
    assert "application/vnd.oci.image.layer.v1.tar+zstd+encrypted" in {
        each["mediaType"] for each in manifest["layers"]
    }
    assert manifest["annotations"][ORIGINAL] == keyed.image.digest
    keyed.opened(bearer, manifest)


def _of_platforms(index: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the entries of an index without attestations, which are not encrypted."""
    return [each for each in index["manifests"] if each["platform"]["os"] != "unknown"]


def test_every_index_entry_leads_to_an_encrypted_manifest(server: CrisperServer, upstream: Upstream) -> None:
    keyed = _keyed(server, upstream, images.multi_platform())
    bearer = keyed.bearer(keyed.mint_encrypted())
    entries = _of_platforms(keyed.manifest(bearer))
    manifests = [keyed.get(f"manifests/{each['digest']}", bearer) for each in entries]
    found = [json.loads(each.body) for each in manifests if each.status == 200]
    assert found
    for manifest in found:
        keyed.opened(bearer, manifest)


def test_ranges_are_ranges_of_the_ciphertext(keyed: Keyed) -> None:
    bearer = keyed.bearer(keyed.mint_encrypted())
    digest = keyed.manifest(bearer)["layers"][0]["digest"]
    whole = keyed.get(f"blobs/{digest}", bearer).expect(200)
    assert "immutable" in whole.headers["Cache-Control"]
    part = keyed.get(f"blobs/{digest}", bearer, Range="bytes=17-1040").expect(206)
    assert part.body == whole.body[17:1041]
    tail = keyed.get(f"blobs/{digest}", bearer, Range="bytes=-9").expect(206)
    assert tail.body == whole.body[-9:]


def test_plaintext_does_not_exist_in_an_encrypted_session(keyed: Keyed) -> None:
    bearer = keyed.bearer(keyed.mint_encrypted())
    for layer in _layers(keyed.image):
        keyed.get(f"blobs/{layer}", bearer).expect(404)
        keyed.get(f"blobs/{layer}", bearer, method="HEAD").expect(404)
    keyed.get(f"manifests/{keyed.image.digest}", bearer).expect(404)


def test_only_the_documents_before_encryption_can_be_read_as_blobs(
    server: CrisperServer, upstream: Upstream
) -> None:
    keyed = _keyed(server, upstream, images.multi_platform())
    bearer = keyed.bearer(keyed.mint_encrypted())
    encrypted = keyed.get("manifests/latest", bearer).expect(200)
    plain = encrypted.headers[PLAINTEXT_DIGEST]
    assert keyed.get(f"blobs/{plain}", bearer).expect(200).body == keyed.image.manifest
    for entry in _of_platforms(json.loads(encrypted.body)):
        answer = keyed.get(f"manifests/{entry['digest']}", bearer)
        if answer.status == 200:
            document = keyed.get(f"blobs/{answer.headers[PLAINTEXT_DIGEST]}", bearer).expect(200)
            for layer in json.loads(document.body)["layers"]:
                keyed.get(f"blobs/{layer['digest']}", bearer).expect(404)
    shown = keyed.get("manifests/latest", bearer, method="HEAD").expect(200)
    assert shown.headers[PLAINTEXT_DIGEST] == plain
    clear = keyed.bearer(
        keyed.server.operator.mint(keyed.organization, keyed.group, keyed.node, encryption="none")
    )
    assert PLAINTEXT_DIGEST not in keyed.get("manifests/latest", clear).expect(200).headers


def test_ciphertext_does_not_exist_in_a_plaintext_session(keyed: Keyed) -> None:
    encrypted = keyed.manifest(keyed.bearer(keyed.mint_encrypted()))
    plain = keyed.server.operator.mint(keyed.organization, keyed.group, keyed.node, encryption="none")
    assert plain.key_thumbprint is None
    bearer = keyed.bearer(plain)
    assert keyed.manifest(bearer)["layers"][0]["digest"] == _layers(keyed.image)[0]
    keyed.get(f"blobs/{encrypted['layers'][0]['digest']}", bearer).expect(404)


def test_workers_and_a_restarted_server_answer_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, upstream: Upstream
) -> None:
    folder = tmp_path_factory.mktemp("again") / "server"
    server = CrisperServer(folder, insecure_registries=[upstream.host], env={"CRISPER_WORKERS": "2"})
    with server:
        keyed = _keyed(server, upstream, images.compressible())
        token = keyed.mint_encrypted()
        bearer = keyed.bearer(token)
        before = {keyed.get("manifests/latest", bearer).expect(200).body for _ in range(16)}
    with server:
        after = {keyed.get("manifests/latest", bearer).expect(200).body for _ in range(16)}
    assert before == after
    assert len(before) == 1


def test_every_pull_has_other_wrapped_keys_and_the_same_ciphertext(keyed: Keyed) -> None:
    one, other = (keyed.manifest(keyed.bearer(keyed.mint_encrypted())) for _ in range(2))
    assert [each["digest"] for each in one["layers"]] == [each["digest"] for each in other["layers"]]
    wrapped = {each["annotations"][KEYS] for each in (*one["layers"], *other["layers"])}
    assert len(wrapped) == 2 * len({each["digest"] for each in one["layers"]})


def test_another_nodes_key_opens_nothing(keyed: Keyed) -> None:
    bearer = keyed.bearer(keyed.mint_encrypted())
    manifest = keyed.manifest(bearer)
    for layer in manifest["layers"]:
        with pytest.raises(JWException):
            KeyPair.p256().options(layer)


def test_a_thief_with_a_whole_session_and_the_data_folder_finds_no_plaintext(
    tmp_path_factory: pytest.TempPathFactory, upstream: Upstream
) -> None:
    """All answers of a session, the catalog and the bucket, but not the keyring and not the node's key."""
    folder = tmp_path_factory.mktemp("stolen") / "server"
    with CrisperServer(folder, insecure_registries=[upstream.host]) as server:
        keyed = _keyed(server, upstream, images.random_layers(2, 1 << 20, "acme/stolen"))
        token = keyed.mint_encrypted()
        bearer = keyed.bearer(token)
        seen = [token.token.encode(), bearer.encode()]
        manifest = keyed.get("manifests/latest", bearer).expect(200)
        seen += [manifest.body, _heads(manifest)]
        for blob in json.loads(manifest.body)["layers"]:
            answer = keyed.get(f"blobs/{blob['digest']}", bearer).expect(200)
            seen += [answer.body, _heads(answer)]
    stolen = [path for path in folder.rglob("*") if path.is_file() and path.name != "keyring.json"]
    seen += [path.read_bytes() for path in stolen]
    for layer in _layers(keyed.image):
        plain = keyed.image.blobs[layer]
        windows = [plain[at : at + WINDOW_BYTES] for at in range(0, len(plain) - WINDOW_BYTES, 4096)]
        assert not any(window in found for found in seen for window in windows)


def test_a_replaced_key_works_for_tokens_of_its_time_and_then_no_more(
    server: CrisperServer, upstream: Upstream
) -> None:
    keyed = _keyed(server, upstream, images.compressible())
    token = keyed.mint_encrypted()
    bearer = keyed.bearer(token)
    second, third = KeyPair.p256(), KeyPair.p256()
    path = f"/nodes/{keyed.node.node_id}/encryption-key"
    server.operator.call("PUT", path, {"public_key": second.public}).expect(200)
    keyed.opened(bearer, keyed.manifest(bearer))
    newer = keyed.mint_encrypted()
    assert newer.key_thumbprint != token.key_thumbprint
    newer_bearer = keyed.bearer(newer)
    keyed.opened(newer_bearer, keyed.manifest(newer_bearer), second)
    older = keyed.bearer(keyed.mint_encrypted())
    server.operator.call("PUT", path, {"public_key": third.public}).expect(200)
    server.operator.call("PUT", path, {"public_key": KeyPair.p256().public}).expect(200)
    refused = keyed.get("manifests/latest", older)
    assert refused.status == 403
    assert "encryption key was replaced" in refused.body.decode()


def test_docker_gets_a_clear_answer(keyed: Keyed) -> None:
    bearer = keyed.bearer(keyed.mint_encrypted())
    agent = (
        "docker/20.10.24+dfsg1 go/go1.19.8 kernel/6.1 os/linux arch/amd64 UpstreamClient(Docker-Client/20.10)"
    )
    refused = keyed.get("manifests/latest", bearer, User_Agent=agent)
    assert refused.status == 403
    assert "Docker cannot decrypt them" in refused.json()["errors"][0]["message"]
    store = agent.replace("UpstreamClient", "containerd-client/2.0 storage-driver/overlayfs UpstreamClient")
    keyed.get("manifests/latest", bearer, User_Agent=store).expect(200)


def test_the_trail_says_which_key_got_the_layers(keyed: Keyed) -> None:
    token = keyed.mint_encrypted()
    operator = keyed.server.operator
    minted = operator.events(type="token.minted", token_id=token.token_id)
    assert minted[0]["detail"]["encryption_key"] == token.key_thumbprint
    assert operator.events(type="token.keyed", token_id=token.token_id) == []
    keyed.manifest(keyed.bearer(token))
    keyed_events = operator.events(type="token.keyed", token_id=token.token_id)
    assert keyed_events[0]["detail"]["encryption_key"] == token.key_thumbprint
    shown = operator.token(token)
    assert shown["encrypted"] is True
    assert shown["image"]["key_thumbprint"] == token.key_thumbprint
    assert shown["image"]["digest"] == token.digest


def test_policies_and_nodes_decide_what_is_minted(server: CrisperServer, upstream: Upstream) -> None:
    keyed = _keyed(server, upstream, images.compressible())
    operator, organization = server.operator, keyed.organization
    body = {
        "organization_name": organization.name,
        "project_name": "default",
        "container_group_name": keyed.group,
    }
    without = operator.create_node()
    docker = operator.create_node(encryption_key=keyed.keys.public, runtime="docker")

    def mint(node: Node, encryption: str | None) -> Response:
        wanted = {"encryption": encryption} if encryption else {}
        return operator.call("POST", "/pull-tokens", body | {"node_id": node.node_id} | wanted)

    def outcome(node: Node, encryption: str | None) -> object:
        answer = mint(node, encryption)
        return (
            answer.json()["encrypted"] if answer.status == 201 else answer.json()["type"].rpartition(":")[2]
        )

    wishes = (None, "preferred", "required", "none")
    assert [outcome(keyed.node, wish) for wish in wishes] == [True, True, True, False]
    assert [outcome(without, wish) for wish in wishes] == [False, False, "node-key-missing", False]
    assert [outcome(docker, wish) for wish in wishes] == [False, False, "node-key-missing", False]
    path = f"/organizations/{organization.name}/encryption"
    assert operator.call("PUT", path, {"policy": "required"}).expect(200).json()["effective"] == "required"
    assert [outcome(keyed.node, wish) for wish in wishes] == [True, True, True, "conflict"]
    assert [outcome(without, wish) for wish in wishes] == [*["node-key-missing"] * 3, "conflict"]
    operator.call("PUT", path, {"policy": "none"}).expect(200)
    assert [outcome(keyed.node, wish) for wish in wishes] == [False, True, True, False]
    operator.call("PUT", path, {"policy": None}).expect(200)
    operator.call("PUT", path, {"policy": "often"}).expect(400)
    operator.call("GET", "/organizations/nobody/encryption").expect(404)


def test_an_image_without_encrypted_delivery_is_refused_until_it_is_imported_for_it(
    server: CrisperServer, upstream: Upstream
) -> None:
    operator, image = server.operator, images.random_layers(2, 1 << 20, "acme/plain")
    upstream.push(image)
    organization, keys = operator.create_organization(), KeyPair.p256()
    path = f"/organizations/{organization.name}/encryption"
    operator.call("PUT", path, {"policy": "none"}).expect(200)
    customer, login = server.customer(organization), upstream.login
    group = customer.import_image(upstream.reference(image), **login)
    node = operator.create_node(encryption_key=keys.public, runtime="containerd")
    body = {
        "organization_name": organization.name,
        "project_name": "default",
        "container_group_name": group,
        "node_id": node.node_id,
        "encryption": "required",
    }
    refused = operator.call("POST", "/pull-tokens", body).expect(409).json()
    assert refused["type"] == "urn:crisper:problem:image-not-encrypted"
    operator.call("PUT", path, {"policy": None}).expect(200)
    again = customer.import_image(upstream.reference(image), **login)
    assert operator.mint(organization, again, node, encryption="required").key_thumbprint


@pytest.mark.parametrize("compression", ["bzip2", "xz"])
def test_an_image_with_a_layer_that_cannot_be_encrypted_is_never_delivered_in_part(
    server: CrisperServer, upstream: Upstream, compression: str
) -> None:
    keyed = _keyed(server, upstream, images.last_layer_of_type(f"tar+{compression}"))
    body = {
        "organization_name": keyed.organization.name,
        "project_name": "default",
        "container_group_name": keyed.group,
        "node_id": keyed.node.node_id,
    }
    operator = server.operator
    refused = operator.call("POST", "/pull-tokens", body | {"encryption": "required"}).expect(409).json()
    assert refused["type"] == "urn:crisper:problem:image-not-encrypted"
    assert f"tar+{compression} cannot be encrypted" in refused["detail"]
    assert operator.call("POST", "/pull-tokens", body).expect(201).json()["encrypted"] is False


def test_a_layer_that_its_publisher_encrypted_is_delivered_unchanged(
    server: CrisperServer, upstream: Upstream
) -> None:
    keyed = _keyed(server, upstream, images.last_layer_of_type("tar+gzip+encrypted"))
    bearer = keyed.bearer(keyed.mint_encrypted())
    layers, originals = keyed.manifest(bearer)["layers"], _layers(keyed.image)
    assert layers[-1]["digest"] == originals[-1]
    assert not set(originals[:-1]) & {each["digest"] for each in layers}
    keyed.get(f"blobs/{originals[-1]}", bearer).expect(200)


def _layers(image: images.Image) -> list[str]:
    return [str(each["digest"]) for each in json.loads(image.manifest)["layers"]]


def _heads(answer: Response) -> bytes:
    return "\n".join(f"{name}: {value}" for name, value in answer.headers.items()).encode()


def test_a_damaged_layer_in_the_other_format_is_fetched_again(
    server: CrisperServer, upstream: Upstream
) -> None:
    operator, image = server.operator, images.random_layers(1, 1_234_567, "acme/damaged")
    upstream.push(image)
    organization, keys = operator.create_organization(), KeyPair.p256()
    path = f"/organizations/{organization.name}/encryption"
    operator.call("PUT", path, {"policy": "none"}).expect(200)
    customer = server.customer(organization)
    customer.import_image(upstream.reference(image), **upstream.login)
    size_bytes = len(image.blobs[_layers(image)[0]])
    objects = (server.data_dir / "blobs" / "objects").glob("*/*")
    (stored,) = [file for file in objects if size_bytes < file.stat().st_size < size_bytes + 1000]
    damaged = bytearray(stored.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    stored.write_bytes(damaged)
    operator.call("PUT", path, {"policy": None}).expect(200)
    group = customer.import_image(upstream.reference(image), **upstream.login)
    node = operator.create_node(encryption_key=keys.public, runtime="containerd")
    keyed = Keyed(server, organization, node, group, image, keys)
    bearer = keyed.bearer(keyed.mint_encrypted())
    assert keyed.opened(bearer, keyed.manifest(bearer)) == [image.blobs[layer] for layer in _layers(image)]


def test_rekeying_gives_new_ciphertext_and_leaves_running_sessions_theirs(
    server: CrisperServer, upstream: Upstream
) -> None:
    keyed = _keyed(server, upstream, images.random_layers(2, 1 << 20, "acme/rekeyed"))
    plain = [keyed.image.blobs[layer] for layer in _layers(keyed.image)]
    before, unread = keyed.mint_encrypted(), keyed.mint_encrypted()
    bearer = keyed.bearer(before)
    old = keyed.manifest(bearer)
    time.sleep(1)  # tokens have whole seconds
    argv = [str(CRISPER), "image", "rekey", keyed.image.digest, "--organization", keyed.organization.name]
    printed = run([*argv, "--data-dir", str(server.data_dir)]).check().output.splitlines()
    assert {each["digest"] for each in old["layers"]} <= set(printed)
    time.sleep(1)
    newer = keyed.mint_encrypted()
    newer_bearer = keyed.bearer(newer)
    new = keyed.manifest(newer_bearer)
    assert not {each["digest"] for each in old["layers"]} & {each["digest"] for each in new["layers"]}
    assert keyed.opened(newer_bearer, new) == plain
    keyed.get(f"blobs/{old['layers'][0]['digest']}", newer_bearer).expect(404)
    assert keyed.opened(bearer, old) == plain
    unread_bearer = keyed.bearer(unread)
    answer = keyed.get("manifests/latest", unread_bearer).expect(200)
    assert answer.headers["Docker-Content-Digest"] == unread.digest
    assert keyed.opened(unread_bearer, answer.json()) == plain
    assert server.operator.events(type="image.rekeyed")[0]["detail"]["layers"] == 2
    edge = server.operator.call("POST", "/edges", {"name": "rekeyed", "url": "https://edge.example.net"})
    headers = {"Authorization": f"Bearer {edge.expect(201).json()['key']}"}
    for layer in (*old["layers"], *new["layers"]):
        request("HEAD", f"{server.url}/edge/blobs/{layer['digest']}", headers=headers).expect(200)


def test_shredding_an_organization_ends_its_manifests_and_leaves_noise(
    server: CrisperServer, upstream: Upstream
) -> None:
    keyed = _keyed(server, upstream, images.random_layers(2, 1 << 20, "acme/shredded"))
    bearer = keyed.bearer(keyed.mint_encrypted())
    manifest = keyed.manifest(bearer)
    argv = [str(CRISPER), "keys", "shred", keyed.organization.name, "--yes"]
    run([*argv, "--data-dir", str(server.data_dir)]).check()
    paths = ("manifests/latest", f"blobs/{manifest['layers'][0]['digest']}")
    wait_until(
        lambda: all(keyed.get(path, bearer).status >= 400 for path in paths),
        timeout_s=7,
        what="neither manifest nor layer is served any more",
    )
