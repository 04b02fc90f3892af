"""Events as they are read from the audit trail; `auth.ports.AuditTrail` is the interface for writing."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from auth.actor import Actor


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An audit event with its position in the trail.

    Attributes:
        type: A name from `registry.audit.types`, or from another version of this software.
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
    actor: Actor | None = None
