"""P-256 signing keys: private keys in a folder, public keys as a JWK set.

    <folder>/<kid>.json          0600   {"signs_from": seconds since 1970, "private_key": PEM}
    <folder>/public/<kid>.json   0600   {"signs_from": seconds since 1970, "public_key": PEM}

A process that only verifies reads the folder `public`, and never has a private key in its memory.
The `kid` is the key's RFC 7638 thumbprint. The state of a key depends only on times, so that all processes
switch to the next key at the same moment (docs/adr/0018-time-based-key-rotation.md).
"""

import hashlib
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Final, Self, TypeVar

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from auth.errors import KeyMaterialError
from auth.keyfiles import read_private, write_private

RETENTION_S = 25 * 3600
"""Time that a key verifies after its successor started to sign: the longest session (24 h), the longest
lifetime of an unredeemed token (15 min), leeway, and a margin."""

PUBLIC: Final = "public"
"""Folder of the public parts, in the folder of a key set."""

K = TypeVar("K", bound="VerificationKey")

_HEADERS = 16  # one for each kind of token and key
_es256 = ECAlgorithm(ECAlgorithm.SHA256)


class KeyState(StrEnum):
    """State of a key. All keys but removed ones verify."""

    PUBLISHED = "published"
    SIGNING = "signing"
    VERIFYING = "verify-only"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """Public part of a signing key and its times, in seconds since 1970.

    Attributes:
        signs_from: Time from which it signs.
        signs_until: Time from which its successor signs; None if there is no successor.
    """

    key_id: str
    public: ec.EllipticCurvePublicKey
    signs_from: float
    signs_until: float | None

    @property
    def verifies_until(self) -> float | None:
        """Time at which its last token and session end; None if it has no successor."""
        return None if self.signs_until is None else self.signs_until + RETENTION_S

    def state(self, now: float) -> KeyState:
        """Return the key's state at a time."""
        if now < self.signs_from:
            return KeyState.PUBLISHED
        if self.signs_until is None or now < self.signs_until:
            return KeyState.SIGNING
        return KeyState.VERIFYING if now < self.signs_until + RETENTION_S else KeyState.REMOVED


@dataclass(frozen=True, slots=True)
class SigningKey(VerificationKey):
    """A signing key, its public part and its times."""

    private: ec.EllipticCurvePrivateKey = field(repr=False)


class LocalVerificationKeys:
    """Public keys of a key set, for verification.

    Attributes:
        version: Version of the key set. After a change, earlier verifications may be invalid.
    """

    def __init__(self, keys: Sequence[VerificationKey], now: Callable[[], float]) -> None:
        self._now = now
        self.version = 0
        self.replace(keys)

    def replace(self, keys: Sequence[VerificationKey]) -> None:
        """Replace the key set."""
        self._keys = {key.key_id: key for key in keys}
        self.version += 1

    def get(self, key_id: str) -> ec.EllipticCurvePublicKey | None:
        """Return a key, or None if it is unknown or was removed."""
        key = self._keys.get(key_id)
        return None if key is None or key.state(self._now()) is KeyState.REMOVED else key.public

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the document for `/.well-known/jwks.json` (RFC 7517, section 5)."""
        return {
            "keys": [
                {**ECAlgorithm.to_jwk(key.public, as_dict=True), "kid": key_id, "use": "sig", "alg": "ES256"}
                for key_id, key in self._keys.items()
                if self.get(key_id) is not None
            ]
        }


class LocalPublicKeys:
    """Public part of a key set in a local folder, for processes that do not sign.

    Args:
        folder: Folder of the key set. Only its folder `public` is read.
        now: Returns the current time in seconds since 1970.

    Raises:
        KeyMaterialError: A file is invalid, or no key signs.
    """

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        self._folder = folder / PUBLIC
        self._now = now
        self._seen = _files(self._folder)
        self.verification_keys = LocalVerificationKeys(_read_set(self._folder, now(), _read_public), now)

    def refresh(self) -> bool:
        """Reload the folder if it has changed.

        Returns:
            Whether the key set has changed.

        Raises:
            KeyMaterialError: The folder's content is invalid. The key set is unchanged.
        """
        seen = _files(self._folder)
        if seen == self._seen:
            return False
        self.verification_keys.replace(_read_set(self._folder, self._now(), _read_public))
        self._seen = seen
        return True


class LocalSigningKeys:
    """Key set in a local folder.

    Args:
        folder: Folder of the keys.
        keys: Keys that were read from it.
        now: Returns the current time in seconds since 1970.
    """

    def __init__(
        self, folder: Path, keys: Sequence[SigningKey], now: Callable[[], float] = time.time
    ) -> None:
        self._folder = folder
        self._now = now
        self._keys = keys
        self._seen = _files(folder)
        self.verification_keys = LocalVerificationKeys(keys, now)

    @classmethod
    def create(cls, folder: Path) -> Self:
        """Create a set with one signing key.

        Raises:
            KeyMaterialError: The folder already contains keys.
        """
        if any(folder.glob("*.json")):
            raise KeyMaterialError(f"{folder} already contains signing keys")
        publish_key(folder, signs_from=0)
        return cls.load(folder)

    @classmethod
    def load(cls, folder: Path, now: Callable[[], float] = time.time) -> Self:
        """Read a set.

        Raises:
            KeyMaterialError: A file is invalid or readable by other users, or no key signs.
        """
        return cls(folder, read_keys(folder, now()), now)

    @property
    def keys(self) -> Sequence[SigningKey]:
        """The keys of the last read, in the order in which they sign."""
        return self._keys

    def refresh(self) -> bool:
        """Remove expired keys, and reload the folder if it has changed.

        Returns:
            Whether the key set has changed.

        Raises:
            KeyMaterialError: The folder's content is invalid. The key set is unchanged.
        """
        for key in self._keys:
            if key.state(self._now()) is KeyState.REMOVED:
                remove_key(self._folder, key.key_id)
        seen = _files(self._folder)
        if seen == self._seen:
            return False
        self._keys = read_keys(self._folder, self._now())
        self._seen = seen
        self.verification_keys.replace(self._keys)
        return True

    def sign(self, header: Mapping[str, str], payload: bytes) -> str:
        """Sign `payload` with the current key, and add its `kid`. Returns the JWS compact form."""
        now = self._now()
        key = next(key for key in reversed(self._keys) if key.signs_from <= now)
        signed = f"{_named(tuple(header.items()), key.key_id)}.{_b64(payload)}"  # RFC 7515, section 5.1
        return f"{signed}.{_b64(_es256.sign(signed.encode(), key.private))}"


def read_keys(folder: Path, now: float) -> list[SigningKey]:
    """Read a folder's keys, in the order in which they sign.

    Raises:
        KeyMaterialError: A file is invalid or readable by other users, or no key signs at `now`.
    """
    return _read_set(folder, now, _read_private)


def publish_key(folder: Path, *, signs_from: float) -> str:
    """Create a key and publish it at once. It signs tokens from `signs_from` on. Returns the key's id."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key_id = thumbprint(key.public_key())
    record = {"signs_from": signs_from, "private_key": pem.decode()}
    write_private(folder / f"{key_id}.json", json.dumps(record).encode())
    write_public_parts(folder)
    return key_id


def write_public_parts(folder: Path) -> None:
    """Write the missing public parts of a folder's keys, and remove those of keys that are gone.

    Raises:
        KeyMaterialError: A private key is invalid or readable by other users.
    """
    private, public = folder.glob("*.json"), folder / PUBLIC
    known = {path.name: path for path in private}
    for path in public.glob("*.json"):
        if path.name not in known:
            path.unlink(missing_ok=True)
    for name, path in known.items():
        if (public / name).exists():
            continue
        key = _read_private(path)
        pem = key.public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        record = {"signs_from": key.signs_from, "public_key": pem.decode()}
        write_private(public / name, json.dumps(record).encode())


def remove_key(folder: Path, key_id: str) -> None:
    """Remove a key. The public part goes first, so that a compromised key is refused at once."""
    for part in (folder / PUBLIC, folder):
        (part / f"{key_id}.json").unlink(missing_ok=True)


def thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    """Return a key's RFC 7638 thumbprint: SHA-256 over its required members, base64url."""
    canonical = json.dumps(ECAlgorithm.to_jwk(key, as_dict=True), sort_keys=True, separators=(",", ":"))
    return _b64(hashlib.sha256(canonical.encode()).digest())


@lru_cache(maxsize=_HEADERS)
def _named(header: tuple[tuple[str, str], ...], key_id: str) -> str:
    return _b64(json.dumps({**dict(header), "kid": key_id}, separators=(",", ":")).encode())


def _files(folder: Path) -> frozenset[tuple[str, int, int]]:
    """Return a fingerprint of the folder's content: name, inode and mtime of each key file."""
    found = set()
    for path in folder.glob("*.json"):
        status = path.stat()
        found.add((path.name, status.st_ino, status.st_mtime_ns))
    return frozenset(found)


def _read_set(folder: Path, now: float, read: Callable[[Path], K]) -> list[K]:
    """Read a folder's keys in the order in which they sign. Each signs until its successor does."""
    found = sorted(map(read, folder.glob("*.json")), key=lambda key: (key.signs_from, key.key_id))
    if not found or found[0].signs_from > now:
        raise KeyMaterialError(f"{folder} has no signing key")
    ends = [key.signs_from for key in found[1:]]
    return [replace(key, signs_until=end) for key, end in zip(found, [*ends, None], strict=True)]


def _read_private(path: Path) -> SigningKey:
    signs_from, pem = _read(path, "private_key")
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        raise KeyMaterialError(f"{path} is not a signing key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyMaterialError(f"{path} is not a P-256 key")
    return SigningKey(path.stem, _own(path, key.public_key()), signs_from, None, private=key)


def _read_public(path: Path) -> VerificationKey:
    signs_from, pem = _read(path, "public_key")
    try:
        key = serialization.load_pem_public_key(pem)
    except ValueError:
        raise KeyMaterialError(f"{path} is not a public key") from None
    return VerificationKey(path.stem, _own(path, key), signs_from, None)


def _read(path: Path, member: str) -> tuple[float, bytes]:
    try:
        record = json.loads(read_private(path))
        return float(record.get("signs_from", 0)), record[member].encode()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise KeyMaterialError(f"{path} is not a signing key") from None


def _own(path: Path, key: object) -> ec.EllipticCurvePublicKey:
    """Return a public key, if it is of the expected kind and the one that the file is named after."""
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeyMaterialError(f"{path} is not a P-256 key")
    if thumbprint(key) != path.stem:
        raise KeyMaterialError(f"{path} contains another key than its name says")
    return key


def _b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
