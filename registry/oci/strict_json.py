"""Strict parsing of untrusted JSON."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from registry.errors import DocumentError


def parse_object(data: bytes, what: str) -> Mapping[str, Any]:
    """Parse a JSON object. Refuses everything that parsers interpret differently.

    Args:
        data: UTF-8 without a byte order mark. The caller must check its length.
        what: Name of the document in errors, for example "the manifest".

    Raises:
        DocumentError: Not a JSON object, a duplicate key, NaN or infinity, or nested too deeply.
    """
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError):
        raise DocumentError(f"{what} is not valid JSON") from None
    if not isinstance(value, dict):
        raise DocumentError(f"{what} is not a JSON object")
    return value


def is_text_map(value: object) -> bool:
    """Return whether clients read a value as a map of strings. They read null as no map, or as no text."""
    return value is None or (isinstance(value, dict) and all(map(is_text, value.values())))


def is_texts(value: object) -> bool:
    """Return whether clients read a value as a list of strings."""
    return value is None or (isinstance(value, list) and all(map(is_text, value)))


def is_text(value: object) -> bool:
    """Return whether clients read a value as a string."""
    return value is None or isinstance(value, str)


def refuse_other_case(fields: Mapping[str, Any], names: Iterable[str], what: str) -> None:
    """Refuse fields that have a known name in another case: parsers of Go read them, others do not.

    Raises:
        DocumentError: There is such a field.
    """
    known = {name.casefold(): name for name in names}
    for name in fields:
        if (meant := known.get(name.casefold(), name)) != name:
            raise DocumentError(f"{what} has a field with the name {meant} in other capitals")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
