"""API keys: who may call the public API, and how often."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from auth.ports import AuditEvent


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key to the public API. The key itself is shown once and kept as a hash.

    Attributes:
        name: What its owner calls it.
    """

    key_id: str
    organization: str
    name: str
    created_at: datetime
    revoked_at: datetime | None = None


class ApiKeyDirectory(Protocol):
    """Whose keys are whose."""

    async def add(self, key: ApiKey, key_hash: bytes, event: AuditEvent, *, limit: int) -> None:
        """Insert, with the event. Raises ConflictError: the organization has `limit` keys in use."""

    async def by_hash(self, key_hash: bytes) -> ApiKey | None:
        """Return the key that has this hash, unless it is revoked."""

    async def list(self, organization: str) -> Sequence[ApiKey]:
        """Return an organization's keys, oldest first, revoked ones included."""

    async def revoke(self, key: ApiKey, event: AuditEvent) -> None:
        """Revoke a key from now on, with the event; do nothing if it is revoked already."""


class RateLimiter(Protocol):
    """Counts what callers ask, across all servers."""

    async def take(self, caller: str) -> float:
        """Count one request; return the seconds that this caller has to wait first, 0 for none."""
