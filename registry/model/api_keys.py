"""API keys of the public API, and the ports for storing them and for rate limiting."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Record of an API key. The key itself is shown once; the catalog stores its hash.

    Attributes:
        name: Label that the owner chose.
    """

    key_id: str
    organization: str
    name: str
    created_at: datetime
    revoked_at: datetime | None = None


class ApiKeyDirectory(Protocol):
    """Store of API keys."""

    async def add(self, key: ApiKey, key_hash: bytes, *, limit: int) -> None:
        """Insert a key. Raises ConflictError: the organization already has `limit` active keys."""

    async def by_hash(self, key_hash: bytes) -> ApiKey | None:
        """Return the key with this hash, unless it is revoked."""

    async def list(self, organization: str) -> Sequence[ApiKey]:
        """Return an organization's keys, oldest first, revoked ones included."""

    async def revoke(self, organization: str, key_id: str) -> bool:
        """Revoke a key. Returns False if there is no such key."""


class RateLimiter(Protocol):
    """Rate limiter that all servers share."""

    async def take(self, caller: str) -> float:
        """Count one request. Returns the seconds that the caller must wait; 0 if the request is allowed."""
