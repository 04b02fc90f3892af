"""Sizes as people read them."""

import re
from typing import Final

from pydantic import ByteSize, TypeAdapter

_ADAPTER: Final[TypeAdapter[ByteSize]] = TypeAdapter(ByteSize)
_SIZE: Final = re.compile(r"[0-9]+(\.[0-9]+)?\s?[A-Za-z]*")
_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB", "PB")
_THOUSAND: Final = 1000
_HUNDRED: Final = 100


def parse_bytes(text: str) -> int:
    """Read a number of bytes, also with a unit: `35GB`, `40 GiB`, `1.5TB`. Raises ValueError."""
    if not _SIZE.fullmatch(text.strip()):  # pydantic ignores what follows: 35,000 would be 35
        raise ValueError("write a number without separators, also with a unit: 35GB, 40GiB")
    return int(_ADAPTER.validate_python(text.strip()))


def readable_bytes(count: float) -> str:
    """Format a number of bytes, for example `1.2 GB`."""
    size, units = float(count), iter(_UNITS)
    unit = next(units)
    while size >= _THOUSAND - 0.5 and unit != _UNITS[-1]:
        size, unit = size / _THOUSAND, next(units)
    return f"{size:.0f} {unit}" if unit == _UNITS[0] or size >= _HUNDRED else f"{size:.1f} {unit}"
