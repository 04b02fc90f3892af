import base64
import hashlib
import json
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from registry.errors import DocumentError
from registry.oci import jwe
from registry.oci.documents import Index, Manifest, parse_document
from registry.oci.encrypted_manifest import (
    LayerSecrets,
    encrypted_index,
    encrypted_manifest,
    encrypted_media_type,
)
from registry.oci.mediatypes import (
    DOCKER_CONFIG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
)
from registry.oci.node_key import NodeKey
from storage.digest import Digest
from tests.support.node_keys import EC_PRIVATE, public_pem

KEY = NodeKey.parse(public_pem(EC_PRIVATE))
OCI = "application/vnd.oci.image.layer.v1.tar"
DOCKER = "application/vnd.docker.image.rootfs.diff.tar"
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
ORIGINAL = Digest.of(b"original")
KEYS = "org.opencontainers.image.enc.keys.jwe"
OPTIONS = "org.opencontainers.image.enc.pubopts"


def described(content: bytes, media_type: str, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content), **more}


def manifest(*layers: dict[str, object], media_type: str = OCI_MANIFEST, **more: object) -> bytes:
    config_type = OCI_CONFIG if media_type == OCI_MANIFEST else DOCKER_CONFIG
    fields = {"schemaVersion": 2, "mediaType": media_type, "config": described(b"config", config_type)}
    return json.dumps(fields | {"layers": list(layers)} | more).encode()


def secrets(content: bytes) -> LayerSecrets:
    parts = (hashlib.sha256(content + name).digest() for name in (b"key", b"nonce", b"mac", b"head", b"seed"))
    symkey, nonce, mac, head, seed = parts
    return LayerSecrets(Digest.of(content + b" encrypted"), symkey, nonce[:16], mac, head, seed)


def of(*contents: bytes) -> Mapping[Digest, LayerSecrets]:
    return {Digest.of(content): secrets(content) for content in contents}


def encrypted(plain: bytes, *contents: bytes) -> dict[str, Any]:
    data = encrypted_manifest(plain, ORIGINAL, of(*contents), KEY)
    assert isinstance(parse_document(data, OCI_MANIFEST), Manifest), "clients can read it"
    fields: dict[str, Any] = json.loads(data)
    return fields


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (OCI, f"{OCI}+encrypted"),
        (f"{OCI}+gzip", f"{OCI}+gzip+encrypted"),
        (f"{OCI}+zstd", f"{OCI}+zstd+encrypted"),
        (DOCKER, f"{OCI}+encrypted"),
        (f"{DOCKER}.gzip", f"{OCI}+gzip+encrypted"),
        (f"{DOCKER}.zstd", f"{OCI}+zstd+encrypted"),
        (FOREIGN, f"{OCI}+gzip+encrypted"),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar", f"{OCI}+encrypted"),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", f"{OCI}+gzip+encrypted"),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", f"{OCI}+zstd+encrypted"),
        (f"{OCI}+gzip+encrypted", None),
        (f"{OCI}+bzip2", None),
        ("application/vnd.oci.image.layer.squashfs", None),
        ("", None),
    ],
)
def test_every_kind_of_layer_that_clients_decrypt_is_encrypted(before: str, after: str | None) -> None:
    assert encrypted_media_type(before) == after
    plain = manifest(described(b"layer", before), media_type=DOCKER_MANIFEST)
    if after is None:
        with pytest.raises(DocumentError, match="cannot be encrypted"):
            encrypted_manifest(plain, ORIGINAL, of(b"layer"), KEY)
    else:
        layer = encrypted(plain, b"layer")["layers"][0]
        assert (layer["mediaType"], layer["size"]) == (after, len(b"layer"))
        assert layer["digest"] == str(Digest.of(b"layer encrypted"))


def test_a_layer_has_what_the_node_needs_and_nothing_public_can_replace_it() -> None:
    annotations = encrypted(manifest(described(b"layer", OCI)), b"layer")["layers"][0]["annotations"]
    made = secrets(b"layer")
    assert annotations.keys() == {KEYS, OPTIONS, "vnd.crisper.head"}
    assert annotations["vnd.crisper.head"] == made.head.hex()
    assert json.loads(base64.b64decode(annotations[OPTIONS])) == {
        "cipher": "AES_256_CTR_HMAC_SHA256",
        "hmac": base64.b64encode(made.hmac).decode(),
        "cipheroptions": {},
    }
    private = json.loads(jwe.unwrap(base64.b64decode(annotations[KEYS]), EC_PRIVATE))
    assert private == {
        "symkey": base64.b64encode(made.symkey).decode(),
        "digest": str(Digest.of(b"layer")),
        "cipheroptions": {"nonce": base64.b64encode(made.nonce).decode()},
    }


def test_nothing_of_the_plaintext_is_left_in_a_layers_descriptor() -> None:
    """Not its digest, embedded content, other locations, or tables of contents; nor somebody else's keys."""
    layer = described(
        b"layer",
        f"{OCI}+gzip",
        data=base64.b64encode(b"layer").decode(),
        urls=["https://registry.example/layer"],
        annotations={
            "containerd.io/snapshot/stargz/toc.digest": str(Digest.of(b"toc")),
            "containerd.io/snapshot/nydus-blob": "true",
            "io.containers.estargz.uncompressed-size": "7",
            "io.github.containers.zstd-chunked.manifest-position": "1:2:3:4",
            "org.opencontainers.image.enc.keys.pgp": "somebody's",
            "org.opencontainers.image.enc.keys.provider.attestation-agent": "somebody's",
            OPTIONS: "somebody's",
            "vnd.crisper.head": "somebody's",
            "example.kept": "yes",
        },
    )
    data = encrypted_manifest(manifest(layer), ORIGINAL, of(b"layer"), KEY)
    assert Digest.of(b"layer").hex.encode() not in data
    assert b"somebody" not in data
    kept = json.loads(data)["layers"][0]
    assert kept.keys() == {"mediaType", "digest", "size", "annotations"}
    assert kept["annotations"].keys() == {KEYS, OPTIONS, "vnd.crisper.head", "example.kept"}


def test_everything_else_is_kept() -> None:
    subject = described(b"subject", OCI_MANIFEST)
    plain = manifest(
        described(b"layer", f"{OCI}+gzip", annotations={"example.layer": "\u00e9"}),
        described(b"plain", f"{OCI}+gzip", annotations={"containerd.io/snapshot/stargz/toc.digest": "kept"}),
        described(b"model", "application/vnd.oci.image.layer.v1.tar+cimg"),
        annotations={"example.image": "1", "vnd.crisper.original.digest": "of a variant"},
        subject=subject,
        artifactType="application/example",
    )
    fields, before = encrypted(plain, b"layer"), json.loads(plain)
    assert fields["config"] == before["config"]
    assert fields["layers"][1:] == before["layers"][1:]
    assert fields["layers"][0]["annotations"]["example.layer"] == "\u00e9"
    assert fields["annotations"] == {"example.image": "1", "vnd.crisper.original.digest": str(ORIGINAL)}
    assert (fields["subject"], fields["artifactType"]) == (subject, "application/example")


def test_a_layer_that_repeats_is_encrypted_at_each_place() -> None:
    layer = described(b"layer", f"{OCI}+gzip")
    fields = encrypted(manifest(layer, described(b"other", OCI), layer), b"layer", b"other")
    assert fields["layers"][0] == fields["layers"][2] != fields["layers"][1]
    assert all(layer["mediaType"].endswith("+encrypted") for layer in fields["layers"])


def test_a_digest_of_sha512_is_accepted() -> None:
    digest = Digest("sha512", hashlib.sha512(b"layer").hexdigest())
    plain = manifest({"mediaType": OCI, "digest": str(digest), "size": 5})
    fields = json.loads(encrypted_manifest(plain, ORIGINAL, {digest: secrets(b"layer")}, KEY))
    assert fields["layers"][0]["digest"] == str(Digest.of(b"layer encrypted"))


def test_characters_that_utf_8_cannot_encode_stay_escaped() -> None:
    plain = manifest(described(b"layer", OCI), annotations={"example": "\ud800"})
    assert b"\\ud800" in plain
    assert encrypted(plain, b"layer")["annotations"]["example"] == "\ud800"


def test_a_manifest_over_the_limit_is_refused() -> None:
    plain = manifest(described(b"layer", OCI), annotations={"example": "x" * ((4 << 20) - 500)})
    with pytest.raises(DocumentError, match="over 4 MiB"):
        encrypted_manifest(plain, ORIGINAL, of(b"layer"), KEY)


def test_secrets_are_neither_shown_nor_pickled() -> None:
    made = secrets(b"layer")
    assert "object at" in repr(made)
    with pytest.raises(TypeError, match="not serialized"):
        pickle.dumps(made)


def index(*entries: dict[str, object], media_type: str = OCI_INDEX, **more: object) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": entries} | more).encode()


@pytest.mark.parametrize(
    ("of_index", "of_manifest"), [(OCI_INDEX, OCI_MANIFEST), (DOCKER_LIST, DOCKER_MANIFEST)]
)
def test_an_index_points_to_the_encrypted_manifests(of_index: str, of_manifest: str) -> None:
    platform = {"os": "linux", "architecture": "arm", "variant": "v7"}
    attested = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": str(Digest.of(b"plain")),
    }
    plain = index(
        described(b"plain", of_manifest, platform=platform, data="cGxhaW4=", annotations={"example": "1"}),
        described(b"attestation", of_manifest, annotations=attested),
        described(b"other", of_manifest),
        described(b"nested", of_index),
        media_type=of_index,
        annotations={"example": "2"},
    )
    replaced = {Digest.of(name): (Digest.of(name + b" encrypted"), 77) for name in (b"plain", b"nested")}
    data = encrypted_index(plain, ORIGINAL, replaced)
    assert isinstance(parse_document(data, OCI_INDEX), Index)
    fields = json.loads(data)
    assert fields["annotations"] == {"example": "2", "vnd.crisper.original.digest": str(ORIGINAL)}
    pointed = str(Digest.of(b"plain encrypted"))
    assert fields["manifests"] == [
        {
            "mediaType": OCI_MANIFEST,
            "digest": pointed,
            "size": 77,
            "platform": platform,
            "annotations": {"example": "1"},
        },
        described(
            b"attestation", of_manifest, annotations=attested | {"vnd.docker.reference.digest": pointed}
        ),
        described(b"other", of_manifest),
        {"mediaType": OCI_INDEX, "digest": str(Digest.of(b"nested encrypted")), "size": 77},
    ]
    assert Digest.of(b"plain").hex.encode() not in data


@pytest.mark.parametrize("annotations", ["text", ["list"], 1])
def test_annotations_that_are_no_map_are_refused(annotations: object) -> None:
    layer = described(b"layer", OCI, annotations=annotations)
    made: list[Callable[[], bytes]] = [
        lambda: encrypted_manifest(manifest(layer), ORIGINAL, of(b"layer"), KEY),
        lambda: encrypted_index(index(layer), ORIGINAL, {}),
        lambda: encrypted_index(index(annotations=annotations), ORIGINAL, {}),
    ]
    for make in made:
        with pytest.raises(DocumentError, match="not a map"):
            make()


def test_a_reference_that_is_no_text_is_kept() -> None:
    entry = described(b"plain", OCI_MANIFEST, annotations={"vnd.docker.reference.digest": ["x"]})
    assert json.loads(encrypted_index(index(entry), ORIGINAL, {}))["manifests"] == [entry]


def test_an_index_over_the_limit_is_refused() -> None:
    plain = index(described(b"plain", OCI_MANIFEST), annotations={"example": "x" * ((4 << 20) - 300)})
    with pytest.raises(DocumentError, match="the encrypted index is over 4 MiB"):
        encrypted_index(plain, ORIGINAL, {})
