"""Strict parsing of untrusted JSON."""

import json
from collections.abc import Mapping
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


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
