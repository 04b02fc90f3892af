"""Data key of a container, and the keys derived from it (docs/blob-format.md, "keys")."""

import os
from typing import Self

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

DEK_BYTES = 32
_COMMIT = b"oeb1-commit"
_META = b"oeb1-meta"
_WRAP = b"oeb1-wrap"
_WRAP_2 = b"oeb2-wrap"


class DataKey:
    """Data key: 32 random bytes that encrypt one container. Its repr hides them."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != DEK_BYTES:
            raise ValueError(f"a data key has {DEK_BYTES} bytes")
        self._secret = secret

    @classmethod
    def generate(cls) -> Self:
        """Generate a random key. Each container has its own, also one that continues an interrupted write."""
        return cls(os.urandom(DEK_BYTES))

    def reveal(self) -> bytes:
        """Return the secret, for wrapping."""
        return self._secret

    def commitment(self, file_id: bytes, header_start: bytes) -> bytes:
        """Derive the 32 bytes that commit a header to this key."""
        return self.derive(file_id, _COMMIT + header_start)

    def meta_cipher(self, file_id: bytes, header_start: bytes) -> AESGCM:
        """Derive the cipher for trailer and index."""
        return AESGCM(self.derive(file_id, _META + header_start))

    def payload_cipher(self, salt: bytes, header: bytes) -> AESGCM:
        """Derive the cipher for the segments, as in Tink's AES256-GCM-HKDF streaming AEAD."""
        return AESGCM(self.derive(salt, header))

    def derive(self, salt: bytes, info: bytes) -> bytes:
        """Derive 32 bytes for the purpose `info`: HKDF-SHA256."""
        return HKDF(algorithm=SHA256(), length=DEK_BYTES, salt=salt, info=info).derive(self._secret)

    def __repr__(self) -> str:
        return "DataKey(...)"

    def __reduce__(self) -> str:
        raise TypeError("a data key cannot be pickled")


def wrap_aad(file_id: bytes, digest: str, tenant: str, kek_id: str, ciphertext: str | None = None) -> bytes:
    """Return the associated data of a wrapped data key (docs/blob-format.md, "key record").

    Each field is preceded by its length, so that different fields never result in the same bytes.

    Args:
        ciphertext: Digest of the ciphertext of an OEB2 container, empty if it is unfinished; None for OEB1.
    """
    label, texts = (_WRAP, ()) if ciphertext is None else (_WRAP_2, (ciphertext,))
    fields = (text.encode() for text in (digest, tenant, kek_id, *texts))
    return label + file_id + b"".join(len(field).to_bytes(2, "big") + field for field in fields)
