"""API keys: who may call the public API."""

from dataclasses import dataclass
from datetime import datetime


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
