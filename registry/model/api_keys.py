"""Who may call the public API: what is asked of the outside."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


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

    async def add(self, key: ApiKey, key_hash: bytes, *, limit: int) -> None:
        """Insert. Raises ConflictError: the organization has `limit` keys in use."""

    async def by_hash(self, key_hash: bytes) -> ApiKey | None:
        """Return the key that has this hash, unless it is revoked."""

    async def list(self, organization: str) -> Sequence[ApiKey]:
        """Return an organization's keys, oldest first, revoked ones included."""

    async def revoke(self, organization: str, key_id: str) -> bool:
        """Revoke a key from now on. False when there is none."""
