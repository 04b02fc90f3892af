"""Writes the golden vectors beside this file: `python -m tests.vectors.encrypted.make`.

Run it only when the format gets a new version: nodes decrypt what servers of other versions have encrypted.
"""

import base64
import hashlib
import hmac
import json
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from registry.oci.encrypted_manifest import LayerSecrets, encrypted_index, encrypted_manifest
from registry.oci.mediatypes import DOCKER_CONFIG, DOCKER_LIST, DOCKER_MANIFEST
from registry.oci.node_key import NodeKey
from storage.digest import Digest

FOLDER = Path(__file__).parent
_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_LAYERS = {
    "short": (b"hello, edge\n", "000102030405060708090a0b0c0d0e0f"),
    "carry-32": (bytes(range(250)), "8899aabbccddeeff00112233fffffffe"),
    "carry-64": (bytes(range(200)), "0011223344556677ffffffffffffffff"),
    "carry-128": (bytes(range(100)), "ff" * 16),
    "over-4096": (bytes(range(256)) * 17, "f0" * 16),
    "empty": (b"", "01" * 16),
}


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _layer(name: str, plaintext: bytes, nonce: bytes) -> tuple[dict[str, object], LayerSecrets]:
    symkey = _hash(f"{name}/symkey")
    ciphertext = Cipher(algorithms.AES256(symkey), modes.CTR(nonce)).encryptor().update(plaintext)
    secrets = LayerSecrets(
        Digest.of(ciphertext),
        symkey,
        nonce,
        hmac.digest(symkey, ciphertext, "sha256"),
        hashlib.sha256(ciphertext[:4096]).digest(),
        _hash(f"{name}/seed"),
    )
    described: dict[str, object] = {
        "name": name,
        "plaintext": base64.b64encode(plaintext).decode(),
        "plaintext_digest": str(Digest.of(plaintext)),
        "symkey": symkey.hex(),
        "nonce": nonce.hex(),
        "ciphertext": base64.b64encode(ciphertext).decode(),
        "ciphertext_digest": str(secrets.ciphertext),
        "hmac": secrets.hmac.hex(),
        "head": secrets.head.hex(),
        "seed": secrets.seed.hex(),
    }
    return described, secrets


def _public(name: str) -> NodeKey:
    """Return the public half of a key in this folder, which is generated if it is not there."""
    path = FOLDER / f"{name}.private.pem"
    if not path.exists():
        key = (
            ec.generate_private_key(ec.SECP256R1()) if name == "ec" else rsa.generate_private_key(65537, 2048)
        )
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    private = serialization.load_pem_private_key(path.read_bytes(), None)
    return NodeKey.parse(
        private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def main() -> None:
    """Write the vectors."""
    layers = [_layer(name, content, bytes.fromhex(nonce)) for name, (content, nonce) in _LAYERS.items()]
    plain = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": {"mediaType": DOCKER_CONFIG, "digest": str(Digest.of(b"{}")), "size": 2},
            "layers": [
                {
                    "mediaType": _GZIP,
                    "digest": str(Digest.of(content)),
                    "size": len(content),
                    "annotations": {"containerd.io/snapshot/stargz/toc.digest": str(Digest.of(b"toc"))},
                }
                for content, _ in _LAYERS.values()
            ],
        }
    ).encode()
    (FOLDER / "plain-manifest.json").write_bytes(plain)
    digest = Digest.of(plain)
    attestation = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": str(digest),
    }
    index = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": DOCKER_LIST,
            "manifests": [
                {"mediaType": DOCKER_MANIFEST, "digest": str(digest), "size": len(plain)},
                {
                    "mediaType": DOCKER_MANIFEST,
                    "digest": str(Digest.of(b"attestation")),
                    "size": 11,
                    "annotations": attestation,
                },
            ],
        }
    ).encode()
    (FOLDER / "plain-index.json").write_bytes(index)
    secrets = {
        Digest.of(content): made for (content, _), (_, made) in zip(_LAYERS.values(), layers, strict=True)
    }
    for name in ("ec", "rsa"):
        encrypted = encrypted_manifest(plain, digest, secrets, _public(name))
        (FOLDER / f"{name}-manifest.json").write_bytes(encrypted)
        replaced = {digest: (Digest.of(encrypted), len(encrypted))}
        (FOLDER / f"{name}-index.json").write_bytes(encrypted_index(index, Digest.of(index), replaced))
    described = {
        "layers": [described for described, _ in layers],
        "thumbprints": {name: _public(name).thumbprint for name in ("ec", "rsa")},
    }
    (FOLDER / "vectors.json").write_text(json.dumps(described, indent=1) + "\n")


if __name__ == "__main__":
    main()
