"""Durations as text for people."""

from typing import Final

_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"))


def readable_duration(seconds: float) -> str:
    """Return a duration in its two largest units, as `2 min 5 s`; below 10 s with one decimal."""
    if 0 < seconds < 10 and seconds != int(seconds):  # noqa: PLR2004
        return f"{seconds:.1f} s"
    left, parts = round(seconds), []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    if left or not parts:
        parts.append(f"{left} s")
    return " ".join(parts[:2])
