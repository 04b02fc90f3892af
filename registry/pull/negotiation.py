"""Which media types a client takes (RFC 9110, section 12.5.1)."""

import re
from collections.abc import Iterable

_RANGE = re.compile(r"\s*([^\s;,/]{1,127})/([^\s;,/]{1,127})\s*((?:;[^;]*)*)")
_NOTHING = re.compile(r";\s*q\s*=\s*0(?:\.0{0,3})?\s*(?:;|$)", re.IGNORECASE)


def accepts(lines: Iterable[str], media_type: str) -> bool:
    """Tell whether a client takes a media type.

    The most specific range decides; parameters but `q` are passed over. A client that names nothing
    readable takes everything.

    Args:
        lines: The values of its `Accept` headers: clients send one, or one for each type.
        media_type: Without parameters.
    """
    ranges = [match for line in lines for part in line.split(",") if (match := _RANGE.fullmatch(part))]
    if not ranges:
        return True
    wanted = media_type.lower()
    family = wanted.partition("/")[0]
    for name in (wanted, f"{family}/*", "*/*"):
        found = [match for match in ranges if f"{match[1]}/{match[2]}".lower() == name]
        if found:
            return any(_NOTHING.search(match[3]) is None for match in found)
    return False
