"""Public encryption key of a node, for which the keys of layers are wrapped. No I/O.

Accepted are the types that all clients can read (docs/encrypted-delivery.md, "Keys of nodes"): P-256, and RSA
of 2048 to 8192 bits.
"""

import re
from base64 import b64decode
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from registry.errors import NodeKeyError
from registry.oci import jwe

MAX_PEM_CHARS: Final = 16 << 10
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192
MIN_RSA_EXPONENT: Final = 65537
MAX_RSA_EXPONENT: Final = (1 << 31) - 1
"""Largest exponent that Go's crypto/rsa accepts, and with it containerd and skopeo."""

_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----([A-Za-z0-9+/=\s]*)-----END \1-----")
_LABEL = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----")
_PUBLIC_LABEL = "PUBLIC KEY"

_SEND = (
    "Send the public half of a P-256 key (`openssl pkey -in KEY.pem -pubout`), which starts with "
    "-----BEGIN PUBLIC KEY-----."
)
_NEW_P256 = "Generate a P-256 key: `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`."
_OF_LABEL: Final = {
    "CERTIFICATE": (f"This is a certificate, not a public key. {_SEND}"),
    "CERTIFICATE REQUEST": f"This is a certificate request, not a public key. {_SEND}",
    "EC PARAMETERS": f"This is the name of a curve, not a public key. {_SEND}",
    "RSA PUBLIC KEY": (
        "This is an RSA key in the old PKCS#1 format. Convert it: "
        "`openssl rsa -RSAPublicKey_in -in KEY.pem -pubout`."
    ),
}
_RSA_PSS = bytes.fromhex("06092a864886f70d01010a")  # object identifiers in DER: RFC 4055, RFC 3279, RFC 5480
_RSA = bytes.fromhex("06092a864886f70d010101")
_EC = bytes.fromhex("06072a8648ce3d0201")


@dataclass(frozen=True, slots=True)
class NodeKey:
    """A public key that was checked.

    Attributes:
        pem: SubjectPublicKeyInfo in PEM, normalized.
        thumbprint: RFC 7638 thumbprint: sha256, base64url without padding.
    """

    pem: str
    thumbprint: str
    _public: jwe.PublicKey = field(repr=False, compare=False)

    @classmethod
    def parse(cls, pem: str | bytes) -> Self:
        """Parse a public key in PEM (SubjectPublicKeyInfo).

        Raises:
            NodeKeyError: It is something else, a key of another type, or a weak one.
        """
        public = _checked(_load(_single_block(pem)))
        normalized = public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return cls(normalized.decode(), jwe.thumbprint(public), public)

    def wrap(self, plaintext: bytes, seed: bytes) -> bytes:
        """Encrypt a short secret for this key, as a JWE; the same bytes for the same arguments."""
        return jwe.wrap(plaintext, self._public, seed)


def _single_block(pem: str | bytes) -> bytes:
    """Return the DER of a text's only PEM block."""
    if len(pem) > MAX_PEM_CHARS:
        raise NodeKeyError(f"The text is over {MAX_PEM_CHARS >> 10} KiB, so it is not a public key. {_SEND}")
    text = pem if isinstance(pem, str) else pem.decode("latin-1")
    labels = _LABEL.findall(text)
    if any("PRIVATE KEY" in label for label in labels):
        raise NodeKeyError(
            "This is a private key, which must never leave the node. Generate another one, and send only its "
            "public half: `openssl pkey -in KEY.pem -pubout`."
        )
    if not labels:
        raise NodeKeyError(f"This is not a public key in PEM. {_SEND}")
    if len(labels) > 1:
        raise NodeKeyError(f"The text has {len(labels)} PEM blocks. Send one public key and nothing else.")
    if labels[0] != _PUBLIC_LABEL:
        raise NodeKeyError(_OF_LABEL.get(labels[0], f"This is not a public key. {_SEND}"))
    block = _BLOCK.search(text)
    try:
        return b64decode("".join(block[2].split()), validate=True) if block else b""
    except ValueError:
        return b""


def _load(der: bytes) -> object:
    start = der[:32]
    if _RSA_PSS in start:
        raise NodeKeyError(f"This RSA key is restricted to signatures (RSASSA-PSS). {_NEW_P256}")
    try:
        return serialization.load_der_public_key(der)
    except UnsupportedAlgorithm:
        raise NodeKeyError(f"Keys of this type or curve are not supported. {_NEW_P256}") from None
    except ValueError:
        pass
    if _RSA in start:
        raise NodeKeyError(f"The RSA key has an invalid modulus or exponent, or is damaged. {_NEW_P256}")
    if _EC in start:
        raise NodeKeyError(f"The key is damaged: its point is not on the curve. {_NEW_P256}")
    raise NodeKeyError(f"The PEM block is damaged, or has no public key that is supported. {_SEND}")


def _checked(key: object) -> jwe.PublicKey:
    if isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, ec.SECP256R1):
            raise NodeKeyError(f"The curve {key.curve.name} is not supported by all clients. {_NEW_P256}")
        return key
    if isinstance(key, rsa.RSAPublicKey):
        _check_rsa(key)
        return key
    name = type(key).__name__.removesuffix("PublicKey")
    raise NodeKeyError(f"Keys of type {name} cannot open layers in containerd and skopeo. {_NEW_P256}")


def _check_rsa(key: rsa.RSAPublicKey) -> None:
    numbers = key.public_numbers()
    if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise NodeKeyError(
            f"The RSA key has {key.key_size} bits, not {MIN_RSA_BITS} to {MAX_RSA_BITS}. {_NEW_P256}"
        )
    if not MIN_RSA_EXPONENT <= numbers.e <= MAX_RSA_EXPONENT or numbers.e % 2 == 0:
        raise NodeKeyError(
            f"The RSA key's exponent is not an odd number from {MIN_RSA_EXPONENT} to {MAX_RSA_EXPONENT}. "
            f"{_NEW_P256}"
        )
    if numbers.n % 2 == 0:
        raise NodeKeyError(f"The RSA key has an even modulus, so it is not an RSA key. {_NEW_P256}")
