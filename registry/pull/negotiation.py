"""Content negotiation by Accept headers (RFC 9110, section 12.5.1)."""

import re
from collections.abc import Iterable

_RANGE = re.compile(r"\s*([^\s;,/]{1,127})/([^\s;,/]{1,127})\s*((?:;[^;]*)*)")
_NOTHING = re.compile(r";\s*q\s*=\s*0(?:\.0{0,3})?\s*(?:;|$)", re.IGNORECASE)


def accepts(lines: Iterable[str], media_type: str) -> bool:
    """Return whether a client accepts a media type.

    The most specific range decides. Parameters other than `q` are ignored. A client without a valid Accept
    header accepts everything.

    Args:
        lines: Values of the client's `Accept` headers.
        media_type: Media type without parameters.
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
