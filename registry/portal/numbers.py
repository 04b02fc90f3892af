"""Numbers in forms and queries. No I/O."""

from typing import Any, Final

_MAX_DIGITS: Final = 15


def whole(text: str) -> Any:  # noqa: ANN401 (validation refuses other values)
    """Return a number, or the text as it is if it is none, so that the validation names its field."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else text
