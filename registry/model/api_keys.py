"""API keys: who may call the public API, and how often."""

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


class RateLimiter(Protocol):
    """Rate limiter that all servers share."""

    async def take(self, caller: str) -> float:
        """Count one request. Returns the seconds that the caller must wait; 0 if the request is allowed."""
