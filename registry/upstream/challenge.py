"""Parser for WWW-Authenticate headers (RFC 7235, section 2.1 and appendix C).

Docker and other clients read headers that violate the grammar, so registries send some. `read_challenges`
takes from those only what authentication needs: that Basic is offered, or where Bearer tokens come from.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Final

from registry.errors import ChallengeFormatError

MAX_HEADER_LENGTH: Final = 16 << 10

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TOKEN68: Final = r"[A-Za-z0-9._~+/-]+=*"
_QUOTED: Final = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[^\x00-\x08\x0a-\x1f\x7f])*"'

_SEPARATORS = re.compile(r"[ \t]*(?:,[ \t]*)*")
_PARAM = re.compile(rf"(?P<name>{_WORD})[ \t]*=[ \t]*(?:(?P<quoted>{_QUOTED})|(?P<plain>{_WORD}))")
_SCHEME = re.compile(rf"(?P<scheme>{_WORD})(?: +(?P<token68>{_TOKEN68})(?=[ \t]*(?:,|$))|(?= |\t|,|$))")
_END_OF_ITEM = re.compile(r"[ \t]*(?:,|$)")
_OFFER = re.compile(r"(?:^|[\s,])(?P<scheme>basic|bearer)(?=$|[\s,])", re.ASCII | re.IGNORECASE)
_LOOSE = re.compile(
    r"""(?:^|[\s,;"'])(?P<name>realm|service|scope)\s*=\s*(?:"(?P<double>[^"]*)(?:"|$)|'(?P<single>[^']*)(?:'|$)|"""
    r"""(?P<plain>[^\s,;"']+))""",
    re.ASCII | re.IGNORECASE,
)
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One authentication challenge of a server.

    Attributes:
        scheme: In lower case.
        params: Names in lower case, values unquoted.
        token68: The alternative to `params` in the grammar.
    """

    scheme: str
    params: Mapping[str, str] = field(default_factory=dict)
    token68: str | None = None


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Parse every challenge of a response's WWW-Authenticate headers, in order.

    Raises:
        ChallengeFormatError: A header violates the grammar, repeats a parameter or is too long.
    """
    text = ", ".join(headers)
    if len(text) > MAX_HEADER_LENGTH:
        raise ChallengeFormatError("the WWW-Authenticate header is too long")
    return tuple(_challenges(text))


def read_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Parse the challenges of a response like `parse_challenges`, and read headers that violate the grammar.

    Of those, only Basic and Bearer are read, and of their parameters the first realm, service and scope.

    Raises:
        ChallengeFormatError: The headers are too long.
    """
    headers = tuple(headers)
    if sum(map(len, headers)) > MAX_HEADER_LENGTH:
        raise ChallengeFormatError("the WWW-Authenticate header is too long")
    return tuple(challenge for header in headers for challenge in _read(header))


def _read(header: str) -> Iterable[Challenge]:
    try:
        return parse_challenges([header])
    except ChallengeFormatError:
        return _loose_challenges(header)


def _loose_challenges(header: str) -> Iterator[Challenge]:
    offers = list(_OFFER.finditer(header))
    for offer, following in zip_longest(offers, offers[1:]):
        end = following.start() if following else len(header)
        params: dict[str, str] = {}
        for match in _LOOSE.finditer(header, offer.end(), end):
            value = match["double"] or match["single"] or match["plain"] or ""
            params.setdefault(match["name"].lower(), value.strip())
        yield Challenge(offer["scheme"].lower(), params)


def _challenges(text: str) -> Iterator[Challenge]:
    position = _skip_separators(text, 0)
    while position < len(text):
        match = _SCHEME.match(text, position)
        if match is None:
            raise ChallengeFormatError("the WWW-Authenticate header has no scheme where one belongs")
        params, position = _params(text, match.end())
        if params and match["token68"]:
            raise ChallengeFormatError("a challenge has parameters and a token68")
        yield Challenge(match["scheme"].lower(), params, match["token68"])


def _params(text: str, position: int) -> tuple[dict[str, str], int]:
    """Read parameters until the next scheme; list elements with an equals sign belong to the last scheme."""
    params: dict[str, str] = {}
    position = _skip_separators(text, position)
    while match := _PARAM.match(text, position):
        name = match["name"].lower()
        if name in params:
            raise ChallengeFormatError("a challenge gives a parameter twice")
        quoted = match["quoted"]
        params[name] = match["plain"] if quoted is None else _ESCAPE.sub(r"\1", quoted[1:-1])
        if not _END_OF_ITEM.match(text, match.end()):
            raise ChallengeFormatError("the WWW-Authenticate header has no comma where one belongs")
        position = _skip_separators(text, match.end())
    return params, position


def _skip_separators(text: str, position: int) -> int:
    match = _SEPARATORS.match(text, position)
    return match.end() if match else position
