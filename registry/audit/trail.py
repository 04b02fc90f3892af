"""The audit trail as the registry reads and writes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Protocol

from auth.ports import AuditEvent

NO_FACTS: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An audit event with its place in the trail."""

    cursor: int
    at: datetime
    event: AuditEvent


class EventLog(Protocol):
    """The audit trail."""

    async def record(self, event: AuditEvent) -> None:
        """Append one event durably."""

    async def page(
        self,
        *,
        after: int = 0,
        limit: int = 100,
        type_: str | None = None,
        organization: str | None = None,
        token_id: str | None = None,
    ) -> Sequence[StoredEvent]:
        """Return events behind a cursor, oldest first; none can appear later between those returned."""

    async def latest(self) -> int:
        """Return the newest event's cursor; 0 when there is none."""
