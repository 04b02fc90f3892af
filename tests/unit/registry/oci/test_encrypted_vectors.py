"""The golden vectors of docs/encrypted-delivery.md, byte for byte, and read by code that shares nothing."""

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from jwcrypto import jwe, jwk

from registry.oci.encrypted_manifest import LayerSecrets, encrypted_index, encrypted_manifest
from registry.oci.jwe import PrivateKey
from registry.oci.node_key import NodeKey
from storage.digest import Digest
from tests.support.node_keys import EC_PRIVATE, RSA_PRIVATE, VECTORS, public_pem

VECTOR: dict[str, Any] = json.loads((VECTORS / "vectors.json").read_text())
LAYERS: list[dict[str, str]] = VECTOR["layers"]
PRIVATE: dict[str, PrivateKey] = {"ec": EC_PRIVATE, "rsa": RSA_PRIVATE}
PLAIN = (VECTORS / "plain-manifest.json").read_bytes()
INDEX = (VECTORS / "plain-index.json").read_bytes()


def key_stream(symkey: bytes, counter: int, size: int) -> bytes:
    """Return AES-256-CTR's key stream, computed block by block with a counter modulo 2^128."""
    block = Cipher(algorithms.AES256(symkey), modes.ECB()).encryptor()  # noqa: S305 - of single counters
    blocks = range(-(-size // 16))
    return b"".join(block.update(((counter + at) % (1 << 128)).to_bytes(16)) for at in blocks)[:size]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: str(layer["name"]))
def test_the_ciphertext_of_a_layer(layer: dict[str, str]) -> None:
    plaintext, ciphertext = (base64.b64decode(layer[name]) for name in ("plaintext", "ciphertext"))
    symkey = bytes.fromhex(layer["symkey"])
    stream = key_stream(symkey, int(layer["nonce"], 16), len(plaintext))
    assert ciphertext == bytes(a ^ b for a, b in zip(plaintext, stream, strict=True))
    assert hmac.digest(symkey, ciphertext, "sha256").hex() == layer["hmac"]
    assert hashlib.sha256(ciphertext[:4096]).hexdigest() == layer["head"]
    assert str(Digest.of(ciphertext)) == layer["ciphertext_digest"]
    assert str(Digest.of(plaintext)) == layer["plaintext_digest"]


def test_counters_that_carry_are_among_them() -> None:
    blocks = {layer["name"]: -(-len(base64.b64decode(layer["plaintext"])) // 16) for layer in LAYERS}
    nonces = {layer["name"]: int(layer["nonce"], 16) for layer in LAYERS}
    for bits in (32, 64, 128):
        name = f"carry-{bits}"
        assert nonces[name] % (1 << bits) + blocks[name] > 1 << bits


@pytest.mark.parametrize("kind", PRIVATE)
def test_the_manifest_and_the_index(kind: str) -> None:
    secrets = {
        Digest.parse(layer["plaintext_digest"]): LayerSecrets(
            Digest.parse(layer["ciphertext_digest"]),
            *(bytes.fromhex(layer[name]) for name in ("symkey", "nonce", "hmac", "head", "seed")),
        )
        for layer in LAYERS
    }
    key = NodeKey.parse(public_pem(PRIVATE[kind]))
    assert key.thumbprint == VECTOR["thumbprints"][kind]
    made = encrypted_manifest(PLAIN, Digest.of(PLAIN), secrets, key)
    assert made == (VECTORS / f"{kind}-manifest.json").read_bytes()
    index = encrypted_index(INDEX, Digest.of(INDEX), {Digest.of(PLAIN): (Digest.of(made), len(made))})
    assert index == (VECTORS / f"{kind}-index.json").read_bytes()


@pytest.mark.parametrize("kind", PRIVATE)
def test_another_implementation_opens_the_wrapped_keys(kind: str) -> None:
    manifest = json.loads((VECTORS / f"{kind}-manifest.json").read_bytes())
    key = jwk.JWK.from_pem((VECTORS / f"{kind}.private.pem").read_bytes())
    for described, layer in zip(manifest["layers"], LAYERS, strict=True):
        token = jwe.JWE(algs=["ECDH-ES+A256KW", "RSA-OAEP", "A256GCM"])
        annotation = described["annotations"]["org.opencontainers.image.enc.keys.jwe"]
        token.deserialize(base64.b64decode(annotation).decode(), key)
        private = json.loads(token.payload)
        assert base64.b64decode(private["symkey"]).hex() == layer["symkey"]
        assert base64.b64decode(private["cipheroptions"]["nonce"]).hex() == layer["nonce"]
        assert private["digest"] == layer["plaintext_digest"]
