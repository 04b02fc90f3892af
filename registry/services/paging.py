"""The cursor of paginated group lists."""

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

from registry.errors import InvalidInputError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Position(NamedTuple):
    """Opaque cursor: creation time and id of the last group on the page."""

    created_at: datetime
    group_id: str

    def __str__(self) -> str:
        micros = (self.created_at - _EPOCH) // timedelta(microseconds=1)
        return base64.urlsafe_b64encode(f"{micros} {self.group_id}".encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a cursor. Raises InvalidInputError: it is malformed."""
        try:
            padded = text.encode() + b"=" * (-len(text) % 4)
            micros, _, group_id = base64.b64decode(padded, b"-_", validate=True).decode().partition(" ")
            return cls(_EPOCH + timedelta(microseconds=int(micros)), group_id)
        except (ValueError, binascii.Error, OverflowError):
            raise InvalidInputError(
                "The query is invalid.", {"after": ["must be the next_after of the previous page"]}
            ) from None
