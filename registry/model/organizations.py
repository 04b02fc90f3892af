"""Organizations: the customers of the container cloud."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Organization:
    """A customer."""

    name: str
    created_at: datetime
