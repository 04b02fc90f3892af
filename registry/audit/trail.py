"""The audit trail as the registry reads it; `auth.ports.AuditTrail` is how it is written."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An audit event with its place in the trail.

    Attributes:
        type: A name of `registry.audit.types`, or of another version of this software.
    """

    cursor: int
    at: datetime
    type: str
    organization: str | None
    token_id: str | None
    node_id: str | None
    cause: str | None
    source: str | None
    detail: Mapping[str, object]
