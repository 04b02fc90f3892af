"""Lists and variables as the lines of a text field. No I/O.

An item is written as it is, or as a JSON string if it has line breaks, or spaces or quotes at its ends.
"""

import json
from collections.abc import Iterator, Mapping, Sequence

from registry.errors import InvalidInputError


def lines_of(items: Sequence[str]) -> str:
    """Return the items, one per line."""
    return "\n".join(map(_quote, items))


def items_of(text: str) -> list[str]:
    """Return the items of a text. Blank lines are ignored. Raises InvalidInputError: a line is not valid."""
    return [_unquote(number, line) for number, line in _lines(text)]


def lines_of_variables(variables: Mapping[str, str]) -> str:
    """Return variables as lines `NAME=value`."""
    names = {name: json.dumps(name) if "=" in name else _quote(name) for name in variables}
    return "\n".join(f"{names[name]}={_quote(value) if value else ''}" for name, value in variables.items())


def variables_of(text: str) -> dict[str, str]:
    """Return the variables of a text. Blank lines are ignored. Raises InvalidInputError: as `items_of`."""
    variables = {}
    for number, line in _lines(text):
        name, rest = _name(number, line)
        if not rest.startswith("=") or (not name and not line.startswith('"')):
            raise InvalidInputError(f"Line {number} is not NAME=value.")
        variables[name] = _unquote(number, rest[1:])
    return variables


def _lines(text: str) -> Iterator[tuple[int, str]]:
    lines = enumerate(text.replace("\r\n", "\n").split("\n"), 1)
    return ((number, line.strip()) for number, line in lines if line.strip())


def _name(number: int, line: str) -> tuple[str, str]:
    if not line.startswith('"'):
        name, equals, value = line.partition("=")
        return name.strip(), equals + value
    try:
        name, end = json.JSONDecoder().raw_decode(line)
    except ValueError:
        raise _unreadable(number) from None
    return name, line[end:].lstrip()


def _quote(item: str) -> str:
    is_plain = item and item == item.strip() and not item.startswith('"') and not {"\r", "\n"} & set(item)
    return item if is_plain else json.dumps(item)


def _unquote(number: int, line: str) -> str:
    text = line.strip()
    if not text.startswith('"'):
        return text
    try:
        item = json.loads(text)
    except ValueError:
        raise _unreadable(number) from None
    return str(item)


def _unreadable(number: int) -> InvalidInputError:
    return InvalidInputError(
        f"Line {number} starts with a quote, but is not a JSON string. Close it with a quote, and put a "
        "backslash before quotes and backslashes within."
    )
