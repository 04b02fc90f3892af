"""API keys: who may call the public API."""

from dataclasses import dataclass
from datetime import datetime


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
