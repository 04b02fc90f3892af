"""Our P-256 keys: private ones in a folder, public ones as a JWK set.

    <folder>/<kid>.json   0600   {"state": "published" | "signing" | "verifying", "private_key": PEM}

The `kid` is the key's RFC 7638 thumbprint. Exactly one key signs; `published` keys are in the JWK set before
they sign, `verifying` ones stay in it until their last token and session are over.
"""

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.api_jws import PyJWS

from auth.errors import KeyMaterialError
from auth.keyfiles import read_private, write_private

_COORDINATE_BYTES = 32
_jws = PyJWS(algorithms=["ES256"])


class KeyState(StrEnum):
    """What a key is used for; every key verifies."""

    PUBLISHED = "published"
    SIGNING = "signing"
    VERIFYING = "verifying"


class LocalVerificationKeys:
    """The public half of a key set; what a server without the authority's role holds."""

    def __init__(self, keys: Mapping[str, ec.EllipticCurvePublicKey]) -> None:
        self._keys = dict(keys)

    def get(self, key_id: str) -> ec.EllipticCurvePublicKey | None:
        """Return one of our keys, None when it is not ours."""
        return self._keys.get(key_id)

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the document for `/.well-known/jwks.json` (RFC 7517, section 5)."""
        return {
            "keys": [
                {**_jwk(key), "kid": key_id, "use": "sig", "alg": "ES256"}
                for key_id, key in self._keys.items()
            ]
        }


class LocalSigningKeys:
    """A key set in a folder of this machine.

    Args:
        signing_key: The one that signs.
        verification_keys: Every public key, the signing one's included.
    """

    def __init__(
        self, signing_key: ec.EllipticCurvePrivateKey, verification_keys: LocalVerificationKeys
    ) -> None:
        self._key = signing_key
        self._key_id = thumbprint(signing_key.public_key())
        self.verification_keys = verification_keys

    @classmethod
    def create(cls, folder: Path) -> Self:
        """Make a set of one signing key.

        Raises:
            KeyMaterialError: The folder holds keys already.
        """
        if any(folder.glob("*.json")):
            raise KeyMaterialError(f"{folder} holds signing keys already")
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        record = {"state": KeyState.SIGNING.value, "private_key": pem.decode()}
        write_private(folder / f"{thumbprint(key.public_key())}.json", json.dumps(record).encode())
        return cls.load(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a set.

        Raises:
            KeyMaterialError: A file is exposed or not what its name says, or not exactly one key signs.
        """
        signing: list[ec.EllipticCurvePrivateKey] = []
        public: dict[str, ec.EllipticCurvePublicKey] = {}
        for path in sorted(folder.glob("*.json")):
            state, key = _read(path)
            public[path.stem] = key.public_key()
            if state is KeyState.SIGNING:
                signing.append(key)
        if len(signing) != 1:
            raise KeyMaterialError(f"{folder} has {len(signing)} signing keys, not one")
        return cls(signing[0], LocalVerificationKeys(public))

    def sign(self, header: Mapping[str, str], payload: bytes) -> str:
        """Return the compact form of `payload`, signed by the current key, whose `kid` is added."""
        return _jws.encode(payload, self._key, "ES256", headers={**header, "kid": self._key_id})


def thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    """Return a key's RFC 7638 thumbprint: SHA-256 over its required members, base64url."""
    canonical = json.dumps(_jwk(key), sort_keys=True, separators=(",", ":"))
    return _b64(hashlib.sha256(canonical.encode()).digest())


def _read(path: Path) -> tuple[KeyState, ec.EllipticCurvePrivateKey]:
    try:
        record = json.loads(read_private(path))
        state = KeyState(record["state"])
        key = serialization.load_pem_private_key(record["private_key"].encode(), password=None)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise KeyMaterialError(f"{path} is not a signing key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeyMaterialError(f"{path} is not a P-256 key")
    if thumbprint(key.public_key()) != path.stem:
        raise KeyMaterialError(f"{path} does not hold the key that its name says")
    return state, key


def _jwk(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    point = key.public_numbers()
    return {
        "crv": "P-256",
        "kty": "EC",
        "x": _b64(point.x.to_bytes(_COORDINATE_BYTES)),
        "y": _b64(point.y.to_bytes(_COORDINATE_BYTES)),
    }


def _b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
