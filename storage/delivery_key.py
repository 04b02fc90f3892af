"""Secrets with which a node decrypts the ciphertext of one layer."""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from storage.digest import Digest

_DERIVED_BYTES = 32


@dataclass(frozen=True, slots=True)
class DeliveryKey:
    """Key and parameters of a layer's ciphertext, in the terms of ocicrypt. Its repr hides the secrets.

    Attributes:
        plaintext: Digest of the layer.
        ciphertext: sha256 of the ciphertext.
        size_bytes: Length of both.
        symkey: AES-256 key, 32 bytes.
        nonce: Initial counter, 16 bytes.
        hmac: HMAC-SHA256 of the ciphertext with `symkey`.
        head: sha256 of the first 4096 bytes of the ciphertext.
        root: Secret of `derive`, which nodes never get.
    """

    plaintext: Digest
    ciphertext: Digest
    size_bytes: int
    symkey: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    hmac: bytes = field(repr=False)
    head: bytes = field(repr=False)
    root: bytes = field(repr=False)

    def derive(self, info: bytes) -> bytes:
        """Derive 32 secret bytes for a purpose. They say nothing about the layer's keys, or about others."""
        return HKDF(algorithm=SHA256(), length=_DERIVED_BYTES, salt=None, info=info).derive(self.root)

    def __reduce__(self) -> str:
        raise TypeError("a delivery key cannot be pickled")
