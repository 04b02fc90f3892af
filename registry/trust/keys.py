"""Public keys of signers: ECDSA and RSA.

cosign signs with Ed25519ph if it has an Ed25519 key, which `cryptography` does not support.
"""

import hashlib
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from registry.errors import SignatureError

MAX_PEM_CHARS: Final = 16 << 10
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192
FOREIGN: Final = "by another key, or changed since"

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

#: cosign 2 hashes with SHA-256 for every curve, cosign 3 with the hash of the curve's size.
_HASHES: Final[dict[str, tuple[hashes.HashAlgorithm, ...]]] = {
    "secp256r1": (hashes.SHA256(),),
    "secp384r1": (hashes.SHA384(), hashes.SHA256()),
    "secp521r1": (hashes.SHA512(), hashes.SHA256()),
}


def load_public_key(pem: str) -> PublicKey:
    """Load a key from PEM, as `cosign generate-key-pair` writes it.

    Raises:
        SignatureError: Not a public key, or of a kind or size that is not supported.
    """
    if len(pem) > MAX_PEM_CHARS or not pem.isascii():
        raise SignatureError("the key is not a public key in PEM: use the file cosign.pub")
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise SignatureError("the key is not a public key in PEM: use the file cosign.pub") from None
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _HASHES:
        return key
    if isinstance(key, rsa.RSAPublicKey) and MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        return key
    raise SignatureError(
        "this kind of key is not supported: use ECDSA on P-256, P-384 or P-521, or RSA of "
        f"{MIN_RSA_BITS} to {MAX_RSA_BITS} bits"
    )


def fingerprint(key: PublicKey) -> str:
    """Return a short name of a key, from the hash of its SubjectPublicKeyInfo."""
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(der).hexdigest()[:16]}"


def verify_signature(key: PublicKey, signature: bytes, data: bytes) -> None:
    """Verify a signature as cosign makes it. Raises SignatureError."""
    kinds = _HASHES[key.curve.name] if isinstance(key, ec.EllipticCurvePublicKey) else (hashes.SHA256(),)
    for kind in kinds:
        try:
            if isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(signature, data, ec.ECDSA(kind))
            else:
                key.verify(signature, data, padding.PKCS1v15(), kind)
        except InvalidSignature:
            continue
        return
    raise SignatureError(FOREIGN)
