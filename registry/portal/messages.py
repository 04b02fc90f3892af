"""What the portal says in words: statuses, failures, events and refusals. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from auth.errors import Cause
from registry.audit.types import EVENT_TYPES


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an import ended, for its owner.

    Attributes:
        reason: One of the four stable words of the public API.
        sentence: What happened this time.
        advice: What helps, most likely first.
    """

    reason: str
    sentence: str
    advice: tuple[str, ...]


_ADVICE: Final[Mapping[str, tuple[str, ...]]] = {
    "failed to authenticate": (
        "See that the image is private, and that the credentials are of its own registry.",
        "See that the token has not expired, and that it may pull this repository.",
        "Then try again, and type the credentials once more: they are erased when an import ends.",
    ),
    "failed to pull": (
        "See that the reference names an image that is there: docker manifest inspect tells.",
        "See that the image has a build for linux/amd64.",
        "Where the registry did not answer, try again in a few minutes.",
    ),
    "image too large": (
        "Make the image smaller: build in stages, leave caches and models out of layers.",
        "Or ask the operator for a higher limit.",
    ),
    "failed to store": (
        "This is the registry's own trouble, not the image's. Try again in a few minutes.",
        "Where it stays so, tell the operator the group's name.",
    ),
}


def failure(description: str) -> Failure:
    """Take a failed group's description apart, `<reason>: <sentence>`."""
    reason, _, sentence = description.partition(": ")
    if reason not in _ADVICE:
        return Failure("failed", description, ())
    return Failure(reason, sentence, _ADVICE[reason])


_CAUSES: Final[Mapping[str, str]] = {
    Cause.MALFORMED: "what was shown is no token",
    Cause.FORGED: "we did not sign it",
    Cause.EXPIRED: "the token had expired",
    Cause.NOT_YET_VALID: "the token is not valid yet",
    Cause.UNKNOWN: "nobody knows it",
    Cause.REPLAYED: "the token was used before",
    Cause.REVOKED: "the token was revoked",
    Cause.WRONG_NODE: "the token is another node's",
    Cause.WRONG_SECRET: "the node's secret was wrong",
    Cause.WRONG_PEER: "the certificate is not the node's",
    Cause.WRONG_NETWORK: "it came from another network",
    Cause.NODE_UNKNOWN: "there is no such node",
    Cause.NODE_REVOKED: "the node was struck off",
    Cause.FENCED: "the ledger was restored since",
    Cause.SESSION_OVER: "the session is over",
    Cause.OUTSIDE_SCOPE: "it asked for something else than its image",
    Cause.OVER_BUDGET: "it has fetched the image several times over",
    Cause.LEDGER_UNAVAILABLE: "the ledger did not answer",
}


def event_sentence(type_: str) -> str:
    """Say what an event means; its type itself where another version wrote it."""
    known = EVENT_TYPES.get(type_)
    return known.sentence if known else type_


def cause_sentence(cause: str) -> str:
    """Say why something was refused."""
    return _CAUSES.get(cause, cause)
