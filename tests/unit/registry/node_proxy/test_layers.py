"""Matching of encrypted documents with the original ones, and decryption of what they name."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.decoder.keys import KeyFolder, LayerKey
from registry.errors import DecoderError, DocumentError
from registry.node_proxy.cipher import Decryptor, LayerVerifier
from registry.node_proxy.layers import EncryptedBlob, match_layers, match_manifests
from registry.oci.documents import Index, Manifest, parse_document
from registry.oci.node_key import NodeKey
from storage.digest import Digest
from tests.support.encrypted import KeyPair
from tests.support.encrypted_images import EncryptedImage, encrypt

KEYS = KeyPair.p256()
IMAGE = EncryptedImage.build(
    NodeKey.parse(KEYS.public), ("+gzip", b"one" * 9), ("+zstd", b"two"), ("", b"three")
)
PLAIN = parse_document(IMAGE.plain)
VECTORS = Path("tests/vectors/encrypted")


@pytest.fixture
def keys(tmp_path: Path) -> KeyFolder:
    (tmp_path / "node.pem").write_bytes(KEYS.private)
    return KeyFolder(str(tmp_path))


def original() -> Manifest:
    assert isinstance(PLAIN, Manifest)
    return PLAIN


def test_every_layer_is_found_and_opens(keys: KeyFolder) -> None:
    found = match_layers(original(), IMAGE.manifest, keys)
    assert list(found) == [Digest.of(layer) for layer in IMAGE.layers]
    for layer, blob in zip(IMAGE.layers, found.values(), strict=True):
        ciphertext = IMAGE.blobs[blob.ciphertext.hex]
        assert Decryptor(blob.key).update(ciphertext) == layer
        verifier = LayerVerifier(blob)
        verifier.update(memoryview(ciphertext))
        assert verifier.matches()


def test_another_nodes_key_is_refused_with_the_cause(tmp_path: Path) -> None:
    (tmp_path / "node.pem").write_bytes(KeyPair.p256().private)
    with pytest.raises(DecoderError, match="its key was wrapped for"):
        match_layers(original(), IMAGE.manifest, KeyFolder(str(tmp_path)))


CHANGES: dict[str, Callable[[list[dict[str, Any]]], object]] = {
    "a layer less": lambda layers: layers.pop(),
    "a layer more": lambda layers: layers.append(layers[0]),
    "another size": lambda layers: layers[0].update(size=1),
    "plaintext under another digest": lambda layers: layers[0].update(
        mediaType="application/vnd.oci.image.layer.v1.tar"
    ),
    "no key": lambda layers: layers[0].update(annotations={}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_documents_that_do_not_match_are_refused(
    keys: KeyFolder, change: Callable[[list[dict[str, Any]]], object]
) -> None:
    manifest = json.loads(IMAGE.manifest)
    change(manifest["layers"])
    with pytest.raises((DocumentError, DecoderError)):
        match_layers(original(), json.dumps(manifest).encode(), keys)


def test_layers_that_are_not_encrypted_are_left_out(keys: KeyFolder) -> None:
    assert match_layers(original(), IMAGE.plain, keys) == {}


def test_an_indexs_manifests_are_matched_in_order() -> None:
    plain = parse_document((VECTORS / "plain-index.json").read_bytes())
    assert isinstance(plain, Index)
    encrypted = (VECTORS / "ec-index.json").read_bytes()
    matched = match_manifests(plain, encrypted)
    assert matched[Digest.of((VECTORS / "plain-manifest.json").read_bytes())] == Digest.of(
        (VECTORS / "ec-manifest.json").read_bytes()
    )
    shorter = json.loads(encrypted)
    shorter["manifests"].pop()
    with pytest.raises(DocumentError):
        match_manifests(plain, json.dumps(shorter).encode())


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=200), st.data())
def test_decryption_can_begin_at_every_offset(plaintext: bytes, data: st.DataObject) -> None:
    nonce = data.draw(st.sampled_from([bytes(16), b"\xff" * 16, b"\0" * 8 + b"\xff" * 8]))
    key = LayerKey(bytes(range(32)), nonce)
    ciphertext = Decryptor(key).update(plaintext)  # CTR mode is its own inverse
    offset = data.draw(st.integers(0, len(plaintext)))
    assert Decryptor(key, offset).update(ciphertext[offset:]) == plaintext[offset:]


@pytest.mark.parametrize("wrong", ["byte", "hmac", "digest", "nonce", "length"])
def test_a_layer_that_differs_in_anything_does_not_match(wrong: str) -> None:
    plaintext = bytes(1000)
    ciphertext, secrets = encrypt(plaintext)
    key = LayerKey(secrets.symkey, secrets.nonce)
    blob = EncryptedBlob(Digest.of(plaintext), secrets.ciphertext, len(plaintext), key, secrets.hmac)
    changed = {
        "hmac": replace(blob, hmac=bytes(32)),
        "digest": replace(blob, plaintext=Digest.of(b"")),
        "nonce": replace(blob, key=LayerKey(secrets.symkey, bytes(16))),
    }
    sent = {"byte": bytes([ciphertext[0] ^ 1]) + ciphertext[1:], "length": ciphertext[:-1]}
    verifier = LayerVerifier(changed.get(wrong, blob))
    verifier.update(memoryview(sent.get(wrong, ciphertext)))
    assert not verifier.matches()
