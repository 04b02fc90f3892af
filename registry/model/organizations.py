"""Organizations: the customers of the container cloud."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from auth.ports import AuditEvent
from registry.model.api_keys import ApiKey


@dataclass(frozen=True, slots=True)
class Organization:
    """A customer."""

    name: str
    created_at: datetime


class OrganizationDirectory(Protocol):
    """Who the customers are."""

    async def add(
        self,
        organization: Organization,
        *recorded: AuditEvent,
        first_key: tuple[ApiKey, bytes] | None = None,
    ) -> None:
        """Insert an organization with its first key and that key's hash. Raises ConflictError: name taken."""

    async def get(self, name: str) -> Organization | None:
        """Return an organization."""

    async def list(self) -> Sequence[Organization]:
        """Return all organizations by name."""
