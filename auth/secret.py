"""Secrets of nodes, and how they are shown, kept and compared (pure).

A node secret is 256 bits from the system's random source, so one SHA-256 is all that its record needs:
there is no dictionary to try, and a slow hash would only slow down the realm.
"""

import hashlib
import hmac
import secrets
from typing import final

_SEPARATOR = "~"


@final
class Secret:
    """A string that stays out of logs, errors and reprs; `reveal` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself, to be sent or compared and never to be kept."""
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
        raise TypeError("a secret is not pickled")


def new_node_secret() -> Secret:
    """Draw a node secret: 256 random bits, base64url."""
    return Secret(secrets.token_urlsafe(32))


def hash_secret(secret: Secret) -> bytes:
    """Return what is kept of a node secret: 32 bytes."""
    return hashlib.sha256(secret.reveal().encode()).digest()


def matches(secret: Secret, kept: bytes) -> bool:
    """Tell whether `secret` is the one that `kept` is the hash of, in constant time."""
    return hmac.compare_digest(hash_secret(secret), kept)


def split_password(password: Secret) -> tuple[Secret, Secret | None]:
    """Split what a node sends as its password: `<pull token>` or `<pull token>~<node secret>`.

    Neither part's alphabet has a `~`; were there several, the last one would divide.
    """
    token, separator, secret = password.reveal().rpartition(_SEPARATOR)
    if not separator:
        return password, None
    return Secret(token), Secret(secret)
