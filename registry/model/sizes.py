"""Sizes as people read them."""

from typing import Final

_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB", "PB")
_THOUSAND: Final = 1000
_HUNDRED: Final = 100


def readable_bytes(count: float) -> str:
    """Format a number of bytes, for example `1.2 GB`."""
    size, units = float(count), iter(_UNITS)
    unit = next(units)
    while size >= _THOUSAND - 0.5 and unit != _UNITS[-1]:
        size, unit = size / _THOUSAND, next(units)
    return f"{size:.0f} {unit}" if unit == _UNITS[0] or size >= _HUNDRED else f"{size:.1f} {unit}"
