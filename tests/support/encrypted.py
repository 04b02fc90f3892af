"""A node with an encryption key: what it can open, by jwcrypto and plain AES, without Crisper's code."""

import hashlib
import hmac
import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from jwcrypto import jwe, jwk

KEYS = "org.opencontainers.image.enc.keys.jwe"
OPTIONS = "org.opencontainers.image.enc.pubopts"
HEAD = "vnd.crisper.head"
ORIGINAL = "vnd.crisper.original.digest"


@dataclass(frozen=True)
class KeyPair:
    """A node's encryption key: PKCS8 and SubjectPublicKeyInfo, in PEM."""

    private: bytes = field(repr=False)
    public: str

    @classmethod
    def p256(cls) -> "KeyPair":
        return cls._of(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def rsa2048(cls) -> "KeyPair":
        return cls._of(rsa.generate_private_key(public_exponent=65537, key_size=2048))

    @classmethod
    def _of(cls, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> "KeyPair":
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return cls(private, public.decode())

    def options(self, layer: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a layer's descriptor holds for this key. Raises jwcrypto's error for another key."""
        token = jwe.JWE(algs=["ECDH-ES+A256KW", "RSA-OAEP", "A256GCM"])
        token.deserialize(b64decode(layer["annotations"][KEYS]).decode(), jwk.JWK.from_pem(self.private))
        return dict(json.loads(token.payload))

    def open(self, layer: Mapping[str, Any], ciphertext: bytes) -> bytes:
        """Decrypt a layer, and check everything that its descriptor says about it."""
        private = self.options(layer)
        public = json.loads(b64decode(layer["annotations"][OPTIONS]))
        assert public["cipher"] == "AES_256_CTR_HMAC_SHA256"
        assert public["cipheroptions"] == {}
        key, nonce = b64decode(private["symkey"]), b64decode(private["cipheroptions"]["nonce"])
        assert hmac.digest(key, ciphertext, "sha256") == b64decode(public["hmac"])
        assert hashlib.sha256(ciphertext[:4096]).hexdigest() == layer["annotations"][HEAD]
        decryptor = Cipher(algorithms.AES(key), modes.CTR(nonce)).decryptor()
        plaintext = decryptor.update(ciphertext) + decryptor.finalize()
        assert private["digest"] == "sha256:" + hashlib.sha256(plaintext).hexdigest()
        return plaintext
