"""Encryption keys of nodes. The private ones are published with the golden vectors."""

from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

VECTORS = Path(__file__).parents[1] / "vectors" / "encrypted"


class _PublicKey(Protocol):
    def public_bytes(self, encoding: serialization.Encoding, format: serialization.PublicFormat) -> bytes: ...  # noqa: A002


class _Private(Protocol):
    def public_key(self) -> _PublicKey: ...


def public_pem(private: _Private) -> str:
    return (
        private.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def in_pkcs8(private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load(name: str) -> object:
    return serialization.load_pem_private_key((VECTORS / f"{name}.private.pem").read_bytes(), None)


_ec, _rsa = _load("ec"), _load("rsa")
assert isinstance(_ec, ec.EllipticCurvePrivateKey)
assert isinstance(_rsa, rsa.RSAPrivateKey)
EC_PRIVATE = _ec
RSA_PRIVATE = _rsa
