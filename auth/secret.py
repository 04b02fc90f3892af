"""Secrets that stay out of logs, and hashing of node secrets. No I/O.

A node secret has 256 random bits, so SHA-256 is sufficient for its hash: a dictionary attack is impossible,
and a slow hash would only slow down the realm.
"""

import hashlib
import hmac
import secrets
from typing import final

_SEPARATOR = "~"


@final
class Secret:
    """A string that stays out of logs, errors and reprs. Only `reveal` returns it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself, for sending or comparing. Do not store it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a secret cannot be pickled")


def new_node_secret() -> Secret:
    """Generate a node secret: 256 random bits, base64url."""
    return Secret(secrets.token_urlsafe(32))


def hash_secret(secret: Secret) -> bytes:
    """Return the hash of a node secret that is stored: 32 bytes."""
    return hashlib.sha256(secret.reveal().encode("utf-8", "surrogateescape")).digest()


def matches(secret: Secret, kept: bytes) -> bool:
    """Return whether `kept` is the hash of `secret`. Runs in constant time."""
    return hmac.compare_digest(hash_secret(secret), kept)


def split_password(password: Secret) -> tuple[Secret, Secret | None]:
    """Split a node's password: `<pull token>` or `<pull token>~<node secret>`.

    Neither part can contain `~`. If there are several, the last one is the separator.
    """
    token, separator, secret = password.reveal().rpartition(_SEPARATOR)
    if not separator:
        return password, None
    return Secret(token), Secret(secret)
