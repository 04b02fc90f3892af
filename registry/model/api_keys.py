"""API keys: who may call the public API, and how often."""

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


class RateLimiter(Protocol):
    """Counts what callers ask, across all servers."""

    async def take(self, caller: str) -> float:
        """Count one request; return the seconds that this caller has to wait first, 0 for none."""
