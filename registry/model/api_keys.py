"""API keys: who may call the public API."""

from dataclasses import dataclass
from datetime import datetime

from registry.model.access import KeyScope


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Record of an API key. The key itself is shown once; the catalog stores its hash.

    Attributes:
        name: Label that the owner chose.
        last_used_at: Time of its last use, at most a minute late; None if it was never used.
    """

    key_id: str
    organization: str
    name: str
    created_at: datetime
    revoked_at: datetime | None = None
    scope: KeyScope = KeyScope.FULL
    last_used_at: datetime | None = None
