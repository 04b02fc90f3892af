"""Digests of plaintext in the form of the OCI image specification (descriptor.md, "Digests")."""

import hashlib
import re
from dataclasses import dataclass
from typing import Protocol, Self

from storage.errors import DigestError, DigestMismatchError

_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_GRAMMAR = re.compile(r"(sha256|sha512):([0-9a-f]+)", re.ASCII)


class Hasher(Protocol):
    """The part of a `hashlib` object that a digest needs."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Hash more bytes."""

    def hexdigest(self) -> str:
        """Return the hash of all bytes so far, in hex."""


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """Hash algorithm and lower-case hex of a digest; always well-formed.

    Raises:
        DigestError: The algorithm is not supported, or the hex is invalid.
    """

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        match = _GRAMMAR.fullmatch(f"{self.algorithm}:{self.hex}")
        if match is None or len(self.hex) != _HEX_LENGTH[self.algorithm]:
            raise DigestError("a digest must be sha256:<64 hex> or sha512:<128 hex>, in lower case")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `algorithm:hex`. Raises DigestError."""
        algorithm, _, hex_ = text.partition(":")
        return cls(algorithm, hex_)

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Hash `data` with sha256, the algorithm that all clients support."""
        return cls("sha256", hashlib.sha256(data).hexdigest())

    def hasher(self) -> Hasher:
        """Return a new hash object of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    def matches(self, data: bytes) -> bool:
        """Return whether `data` has this digest."""
        return hashlib.new(self.algorithm, data).hexdigest() == self.hex

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


class Hashes:
    """Hashes of the plaintext: the expected digest's, if any, and sha256 for the container's trailer."""

    def __init__(self, digest: Digest | None) -> None:
        self._digest = digest
        self._sha256: Hasher = hashlib.sha256()
        other = digest is not None and digest.algorithm != "sha256"
        self._promised = digest.hasher() if digest is not None and other else self._sha256

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Process more plaintext."""
        self._promised.update(data)
        if self._sha256 is not self._promised:
            self._sha256.update(data)

    def check(self) -> bytes:
        """Return the sha256. Raises DigestMismatchError: the plaintext does not match the digest."""
        if self._digest is not None and self._promised.hexdigest() != self._digest.hex:
            raise DigestMismatchError(f"the content does not match the digest {self._digest}")
        return bytes.fromhex(self._sha256.hexdigest())
