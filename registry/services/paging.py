"""Where a page of groups ended, as callers carry it."""

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

from registry.errors import InvalidInputError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Position(NamedTuple):
    """Behind the group created then, with this id; written so that nobody is tempted to make one."""

    created_at: datetime
    group_id: str

    def __str__(self) -> str:
        micros = (self.created_at - _EPOCH) // timedelta(microseconds=1)
        return base64.urlsafe_b64encode(f"{micros} {self.group_id}".encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a position. Raises InvalidInputError: it is not from here."""
        try:
            padded = text.encode() + b"=" * (-len(text) % 4)
            micros, _, group_id = base64.b64decode(padded, b"-_", validate=True).decode().partition(" ")
            return cls(_EPOCH + timedelta(microseconds=int(micros)), group_id)
        except (ValueError, binascii.Error, OverflowError):
            raise InvalidInputError(
                "The query does not validate.", {"after": ["send what the page before gave"]}
            ) from None
