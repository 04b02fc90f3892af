"""Texts of the portal for failures, events and refusals. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from auth.actor import Actor
from auth.errors import Cause
from registry.audit.types import EVENT_TYPES
from registry.model.durations import readable_duration
from registry.model.remedies import for_operator
from registry.sizes import readable_bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """Explanation of a failed import for the group's owner.

    Attributes:
        reason: One of the four stable reasons of the public API.
        sentence: Description of this failure.
        advice: Possible remedies, the most likely one first.
    """

    reason: str
    sentence: str
    advice: tuple[str, ...]


_ADVICE: Final[Mapping[str, tuple[str, ...]]] = {
    "failed to authenticate": (
        "Check that the credentials belong to the image's registry.",
        "Check that they have not expired and allow pulling this repository.",
        "Then try again with the credentials, which are erased when an import ends.",
    ),
    "failed to pull": (
        "Check that the image exists: run docker manifest inspect with its reference.",
        "Check that the image supports linux/amd64.",
        "If the registry did not respond, try again in a few minutes.",
    ),
    "image too large": (
        "Make the image smaller: use a multi-stage build, and keep caches and models out of the layers.",
        "Or ask the operator for a higher limit.",
    ),
    "failed to store": (
        "The cause is in Crisper, not in the image. Try again in a few minutes.",
        "If it fails again, send the group's name to the operator.",
    ),
}


def failure(description: str, *, is_operator: bool = False) -> Failure:
    """Parse a failed group's description, `<reason>: <sentence>`, for a customer or for the operator."""
    reason, _, sentence = description.partition(": ")
    if reason not in _ADVICE:
        return Failure("failed", description, ())
    if not is_operator:
        return Failure(reason, sentence, _ADVICE[reason])
    return Failure(reason, for_operator(sentence), tuple(map(for_operator, _ADVICE[reason])))


_CAUSES: Final[Mapping[str, str]] = {
    Cause.MALFORMED: "the password is not a token",
    Cause.FORGED: "the token's signature is not valid",
    Cause.EXPIRED: "the token had expired",
    Cause.NOT_YET_VALID: "the token is not valid yet",
    Cause.UNKNOWN: "the token is unknown",
    Cause.REPLAYED: "the token was used before",
    Cause.REVOKED: "the token was revoked",
    Cause.WRONG_NODE: "the token belongs to another node",
    Cause.WRONG_SECRET: "the node's secret was wrong",
    Cause.WRONG_PEER: "the certificate does not belong to the node",
    Cause.WRONG_NETWORK: "the request came from a network that is not allowed",
    Cause.NODE_UNKNOWN: "the node does not exist",
    Cause.NODE_REVOKED: "the node was revoked",
    Cause.FENCED: "the token was minted before a failover or restore of the ledger",
    Cause.SESSION_OVER: "the session has ended",
    Cause.OUTSIDE_SCOPE: "the request was for content outside the session's image",
    Cause.OVER_BUDGET: "the session has used up its byte budget",
    Cause.LEDGER_UNAVAILABLE: "the ledger did not respond",
}


def event_sentence(type_: str) -> str:
    """Return the description of an event type; the type itself if this version does not know it."""
    known = EVENT_TYPES.get(type_)
    return known.sentence if known else type_


def actor_shown(actor: Actor | None, *, is_operator: bool) -> tuple[str, str]:
    """Return the name and the id of an event's actor, empty if it has none.

    Customers do not see which operator acted.
    """
    if actor is None:
        return "", ""
    if actor.is_operator and not is_operator:
        return "operator", ""
    return actor.name, actor.id


def fact(value: object, name: str = "") -> str:
    """Return a fact of an event as text for people."""
    if value is None or value == "" or value in ([], {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return _quantity(value, name)
    if isinstance(value, Mapping):
        return ", ".join(f"{label(key)}: {fact(each, key)}" for key, each in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "; ".join(map(fact, value))
    return str(value)


def _quantity(value: float, name: str) -> str:
    unit = name.rpartition("_")[2]
    if unit in {"bytes", "size"}:
        return readable_bytes(value)
    return readable_duration(value) if unit == "s" else str(value)


def label(name: str) -> str:
    """Return the name of a fact as words, without its unit."""
    return name.removesuffix("_s").removesuffix("_bytes").replace("_", " ")


def cause_sentence(cause: str) -> str:
    """Return the description of a refusal's cause."""
    return _CAUSES.get(cause, cause)
