"""Organizations (tenants): the customers of the container cloud."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Organization:
    """A customer of the container cloud."""

    name: str
    created_at: datetime
