"""Encryption of short secrets for one key, as JSON Web Encryption (RFC 7516, flattened JSON). No I/O.

Only what ocicrypt's readers accept: ECDH-ES+A256KW on P-256, and RSA-OAEP, both with A256GCM. The result
depends on the arguments only (docs/encrypted-delivery.md, "Wrapped keys"), which no library offers. The layer
decoder imports this module too, so it must import little.
"""

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from registry.errors import JweError, JweKeyMismatchError

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

SEED_BYTES: Final = 32

_EC: Final = "ECDH-ES+A256KW"
_RSA: Final = "RSA-OAEP"
_ENC: Final = "A256GCM"
_CEK_BYTES = 32
_IV_BYTES = 12
_TAG_BYTES = 16
_COORDINATE_BYTES = 32
# 128 bits more than the order, so that the remainder has no noticeable bias (FIPS 186-5, A.2.1).
_SCALAR_BYTES = 48
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_MAX_RECIPIENTS = 64
_OAEP = padding.OAEP(mgf=padding.MGF1(SHA1()), algorithm=SHA1(), label=None)  # noqa: S303 - RFC 7518, 4.3


def wrap(plaintext: bytes, key: PublicKey, seed: bytes) -> bytes:
    """Encrypt a short secret for a key; the same bytes for the same arguments.

    Args:
        plaintext: The secret.
        key: P-256 or RSA key of the reader.
        seed: 32 secret bytes that the reader does not have. All keys and nonces are derived from them,
            together with the reader's key and the plaintext, so that other arguments never share one.
    """
    if len(seed) != SEED_BYTES:
        raise ValueError(f"the seed must have {SEED_BYTES} bytes")
    kid = thumbprint(key)
    bound = _decode(kid) + hashlib.sha256(plaintext).digest()

    def derive(label: bytes, size: int) -> bytes:
        return HKDF(SHA256(), size, None, b"crisper-jwe-v1/" + label + b"\0" + bound).derive(seed)

    cek = derive(b"cek", _CEK_BYTES)
    header: dict[str, Any]
    if isinstance(key, rsa.RSAPublicKey):
        header = {"alg": _RSA, "enc": _ENC, "kid": kid}
        encrypted_key = _oaep_encrypt(
            cek, key, derive(b"oaep", hashlib.sha1(usedforsecurity=False).digest_size)
        )
    else:
        scalar = int.from_bytes(derive(b"ephemeral", _SCALAR_BYTES)) % (_P256_ORDER - 1) + 1
        ephemeral = ec.derive_private_key(scalar, ec.SECP256R1())
        header = {"alg": _EC, "enc": _ENC, "epk": public_jwk(ephemeral.public_key()), "kid": kid}
        encrypted_key = aes_key_wrap(_agree(ephemeral, key, header), cek)
    protected = _encode(_dump(header))
    iv = derive(b"iv", _IV_BYTES)
    sealed = AESGCM(cek).encrypt(iv, plaintext, protected.encode())
    fields = {
        "protected": protected,
        "encrypted_key": _encode(encrypted_key),
        "iv": _encode(iv),
        "ciphertext": _encode(sealed[:-_TAG_BYTES]),
        "tag": _encode(sealed[-_TAG_BYTES:]),
    }
    return _dump(fields)


def unwrap(jwe: bytes, key: PrivateKey) -> bytes:
    """Return the plaintext of a JWE in flattened or general JSON.

    Args:
        jwe: Untrusted. The caller must check its length.
        key: P-256 or RSA key.

    Raises:
        JweKeyMismatchError: The JWE is for other keys.
        JweError: It is not a JWE of the supported algorithms.
    """
    try:
        fields = json.loads(jwe)
        protected = fields.get("protected", "")
        aad = protected + ("." + fields["aad"] if "aad" in fields else "")
        iv, sealed = _decode(fields["iv"]), _decode(fields["ciphertext"]) + _decode(fields["tag"])
        for header, encrypted_key in _recipients(fields, protected):
            cek = _unwrap_key(header, encrypted_key, key)
            if cek is not None:
                return AESGCM(cek).decrypt(iv, sealed, aad.encode())
    except InvalidTag:
        raise JweError("the wrapped key was modified") from None
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise JweError("the wrapped key is not a valid JWE") from None
    raise JweKeyMismatchError("the layer's key was wrapped for another key")


def key_ids(jwe: bytes) -> list[str]:
    """Return the thumbprints of the keys for which Crisper wrapped; empty for a JWE of other software."""
    try:
        fields = json.loads(jwe)
        headers = [header for header, _ in _recipients(fields, fields.get("protected", ""))]
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, JweError):
        return []
    return [header["kid"] for header in headers if isinstance(header.get("kid"), str)]


def public_jwk(key: PublicKey) -> dict[str, str]:
    """Return a public key's required members as a JWK (RFC 7518, section 6), sorted by name."""
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return {"e": _encode(_shortest(numbers.e)), "kty": "RSA", "n": _encode(_shortest(numbers.n))}
    point = key.public_numbers()
    x, y = (_encode(number.to_bytes(_COORDINATE_BYTES)) for number in (point.x, point.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}


def thumbprint(key: PublicKey) -> str:
    """Return a key's thumbprint (RFC 7638): sha256, base64url without padding."""
    return _encode(hashlib.sha256(_dump(public_jwk(key))).digest())


def _recipients(fields: Mapping[str, Any], protected: str) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield header and encrypted key of each recipient (RFC 7516, sections 7.2.1 and 7.2.2)."""
    shared = {**(json.loads(_decode(protected)) if protected else {}), **fields.get("unprotected", {})}
    if "crit" in shared or "zip" in shared or shared.get("enc", _ENC) != _ENC:
        raise JweError("the wrapped key uses an algorithm other than A256GCM, or an extension")
    for recipient in fields.get("recipients", [fields])[:_MAX_RECIPIENTS]:
        yield {**shared, **recipient.get("header", {})}, _decode(recipient["encrypted_key"])


def _unwrap_key(header: Mapping[str, Any], encrypted_key: bytes, key: PrivateKey) -> bytes | None:
    """Return the content encryption key, or None if it is for another key."""
    try:
        if isinstance(key, rsa.RSAPrivateKey):
            return key.decrypt(encrypted_key, _OAEP) if header.get("alg") == _RSA else None
        if header.get("alg") != _EC:
            return None
        epk = header["epk"]
        if epk["crv"] != "P-256":
            return None
        x, y = (int.from_bytes(_decode(epk[name])) for name in "xy")
        point = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        return aes_key_unwrap(_agree(key, point, header), encrypted_key)
    except (InvalidUnwrap, ValueError):
        return None


def _agree(
    private: ec.EllipticCurvePrivateKey, public: ec.EllipticCurvePublicKey, header: Mapping[str, Any]
) -> bytes:
    """Return the key that wraps the content encryption key (RFC 7518, section 4.6.2)."""
    parts = (header["alg"].encode(), _decode(header.get("apu", "")), _decode(header.get("apv", "")))
    info = b"".join(len(part).to_bytes(4) + part for part in parts) + (_CEK_BYTES * 8).to_bytes(4)
    return ConcatKDFHash(SHA256(), _CEK_BYTES, info).derive(private.exchange(ec.ECDH(), public))


def _oaep_encrypt(secret: bytes, key: rsa.RSAPublicKey, seed: bytes) -> bytes:
    """Encrypt with RSAES-OAEP and SHA-1 (RFC 8017, section 7.1.1) with a given seed."""
    numbers = key.public_numbers()
    size = (key.key_size + 7) // 8
    empty_label = hashlib.sha1(usedforsecurity=False)
    data = empty_label.digest() + (b"\1" + secret).rjust(size - 1 - 2 * empty_label.digest_size, b"\0")
    masked_data = _xor(data, _mgf1(seed, len(data)))
    masked_seed = _xor(seed, _mgf1(masked_data, len(seed)))
    message = int.from_bytes(masked_seed + masked_data)
    return pow(message, numbers.e, numbers.n).to_bytes(size)


def _mgf1(seed: bytes, size: int) -> bytes:
    rounds = range(-(-size // hashlib.sha1(usedforsecurity=False).digest_size))
    blocks = (hashlib.sha1(seed + count.to_bytes(4), usedforsecurity=False).digest() for count in rounds)
    return b"".join(blocks)[:size]


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _shortest(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)


def _dump(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
