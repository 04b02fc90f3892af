"""Organizations: the customers of the container cloud."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Organization:
    """A customer."""

    name: str
    created_at: datetime


class OrganizationDirectory(Protocol):
    """Who the customers are."""

    async def add(self, organization: Organization) -> None:
        """Insert. Raises ConflictError: the name is taken."""

    async def get(self, name: str) -> Organization | None:
        """Return an organization."""

    async def list(self) -> Sequence[Organization]:
        """Return all organizations by name."""
