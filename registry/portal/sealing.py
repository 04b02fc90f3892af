"""Encryption of secrets that are shown once, from the answer to a form until the next page.

Redis holds the ciphertext. Its key follows from the session cookie, which only the browser has: Redis knows
the cookie's hash (`registry.ephemeral.portal_sessions`). A copy of Redis therefore reveals no secret.
"""

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from auth.secret import Secret

_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32
_INFO: Final = b"crisper portal shown once|"


def seal(secret: Secret, session_id: str, page: str) -> bytes:
    """Encrypt a secret for one session and page."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + _cipher(session_id).encrypt(nonce, secret.reveal().encode(), page.encode())


def unseal(sealed: bytes, session_id: str, page: str) -> Secret | None:
    """Return the secret; None if it was sealed for another session or page, or is damaged."""
    nonce, ciphertext = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        return Secret(_cipher(session_id).decrypt(nonce, ciphertext, page.encode()).decode())
    except (InvalidTag, ValueError):
        return None


def _cipher(session_id: str) -> AESGCM:
    kdf = HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=_INFO)
    return AESGCM(kdf.derive(session_id.encode(errors="replace")))
