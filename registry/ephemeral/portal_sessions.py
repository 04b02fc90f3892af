"""Sessions of the portal in Redis."""

import hashlib
import secrets
from typing import Final

from redis.exceptions import RedisError

from auth.errors import LedgerUnavailableError
from auth.ledger import LedgerClient
from auth.secret import Secret

SHOWN_ONCE_S: Final = 120
"""Time within which a secret must be read that is shown once."""

_ID_BYTES: Final = 32


class RedisPortalSessions:
    """Stores sessions as `portal:{<hash of the id>}`, with a person or the hash of an API key.

    A copy of Redis reveals neither session ids nor keys. All methods raise `LedgerUnavailableError` if Redis
    does not answer.

    Args:
        ttl_s: Lifetime of a session, regardless of its use.
    """

    def __init__(self, redis: LedgerClient, ttl_s: int) -> None:
        self._redis = redis
        self.ttl_s = ttl_s

    async def open(self, holder: bytes, ttl_s: int | None = None) -> Secret:
        """Create a session of the usual or a shorter lifetime. Returns its id, for the cookie."""
        session_id = secrets.token_urlsafe(_ID_BYTES)
        try:
            await self._redis.set(_name(session_id), holder, ex=ttl_s or self.ttl_s)
        except (RedisError, OSError):
            raise LedgerUnavailableError from None
        return Secret(session_id)

    async def find(self, session_id: str) -> bytes | None:
        """Return who opened a session; None if there is no such session."""
        try:
            found = await self._redis.get(_name(session_id))
        except (RedisError, OSError):
            raise LedgerUnavailableError from None
        return found if isinstance(found, bytes) else None

    async def replace(self, session_id: str, holder: bytes) -> None:
        """Replace the holder of a session, if it has not ended. Its lifetime stays as it is."""
        try:
            await self._redis.set(_name(session_id), holder, xx=True, keepttl=True)
        except (RedisError, OSError):
            raise LedgerUnavailableError from None

    async def close(self, session_id: str) -> None:
        """End a session."""
        try:
            await self._redis.delete(_name(session_id))
        except (RedisError, OSError):
            raise LedgerUnavailableError from None

    async def begin_form(self, session_id: str, form_id: str) -> str | None:
        """Record that a form was submitted. Returns None the first time, then the page to show, or ""."""
        name = _form_name(session_id, form_id)
        try:
            if await self._redis.set(name, b"", nx=True, ex=self.ttl_s):
                return None
            page = await self._redis.get(name)
        except (RedisError, OSError):
            raise LedgerUnavailableError from None
        return page.decode() if isinstance(page, bytes) else ""

    async def end_form(self, session_id: str, form_id: str, page: str) -> None:
        """Record the page to show if a form is submitted again."""
        try:
            await self._redis.set(_form_name(session_id, form_id), page.encode(), ex=self.ttl_s)
        except (RedisError, OSError):
            raise LedgerUnavailableError from None

    async def put_secret(self, session_id: str, page: str, sealed: bytes) -> None:
        """Store a sealed secret for one read on a page, for at most `SHOWN_ONCE_S`."""
        try:
            await self._redis.set(_secret_name(session_id, page), sealed, ex=SHOWN_ONCE_S)
        except (RedisError, OSError):
            raise LedgerUnavailableError from None

    async def take_secret(self, session_id: str, page: str) -> bytes | None:
        """Return and delete the sealed secret of a page; None if there is none, or it was read."""
        try:
            found = await self._redis.getdel(_secret_name(session_id, page))
        except (RedisError, OSError):
            raise LedgerUnavailableError from None
        return found if isinstance(found, bytes) else None


def _secret_name(session_id: str, page: str) -> str:
    return _name(f"{session_id}|once|{page}")


def _form_name(session_id: str, form_id: str) -> str:
    return _name(f"{session_id}|{form_id}")


def _name(session_id: str) -> str:
    return f"portal:{{{hashlib.sha256(session_id.encode(errors='replace')).hexdigest()}}}"
