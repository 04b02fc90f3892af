"""One sign-in at the identity provider, from its start until the browser comes back. No I/O."""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Final, Self

LIFETIME_S: Final = 600

_SECRET_BYTES: Final = 32
_SECRET_CHARS: Final = 43
_MAX_FOLLOWING: Final = 2048


@dataclass(frozen=True, slots=True)
class SignInAttempt:
    """One attempt. Only the browser's cookie has it, so that strangers cannot fill a store.

    State, nonce and code verifier are derived from one secret. They do not reveal it, nor each other.

    Attributes:
        following: The page to show after the sign-in, as the browser sent it.
    """

    secret: str = field(repr=False)
    following: str

    @classmethod
    def begin(cls, following: str) -> Self:
        """Begin an attempt."""
        return cls(secrets.token_urlsafe(_SECRET_BYTES), following[:_MAX_FOLLOWING])

    @classmethod
    def parse(cls, cookie: str) -> Self | None:
        """Return the attempt of a cookie; None if it is malformed."""
        secret, _, encoded = cookie.partition(".")
        try:
            following = base64.urlsafe_b64decode(encoded).decode()
        except ValueError:
            return None
        return cls(secret, following) if secret.isascii() and len(secret) == _SECRET_CHARS else None

    @property
    def cookie(self) -> str:
        """The content of the cookie."""
        encoded = self.following.encode(errors="replace")[:_MAX_FOLLOWING].decode(errors="ignore").encode()
        return f"{self.secret}.{base64.urlsafe_b64encode(encoded).decode()}"

    @property
    def state(self) -> str:
        """Value that binds the provider's answer to the browser (RFC 6749, section 10.12)."""
        return self._derive(b"state")

    @property
    def nonce(self) -> str:
        """Value that binds the ID token to the attempt (OpenID Connect Core 1.0, section 3.1.2.1)."""
        return self._derive(b"nonce")

    @property
    def verifier(self) -> str:
        """PKCE's code verifier (RFC 7636, section 4.1)."""
        return self._derive(b"verifier")

    @property
    def challenge(self) -> str:
        """PKCE's code challenge of the method S256 (RFC 7636, section 4.2)."""
        return _text(hashlib.sha256(self.verifier.encode()).digest())

    def _derive(self, purpose: bytes) -> str:
        return _text(hmac.digest(self.secret.encode(), b"crisper sign-in " + purpose, "sha256"))


def _text(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
