"""Organizations (tenants): the customers of the container cloud."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Organization:
    """A customer of the container cloud."""

    name: str
    created_at: datetime


class OrganizationDirectory(Protocol):
    """Store of organizations."""

    async def add(self, organization: Organization) -> None:
        """Insert an organization. Raises ConflictError: the name is taken."""

    async def get(self, name: str) -> Organization | None:
        """Return an organization, or None."""

    async def list(self) -> Sequence[Organization]:
        """Return all organizations, ordered by name."""
