"""What the portal says in words: statuses, failures, events and refusals. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from auth.errors import Cause


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


_EVENTS: Final[Mapping[str, str]] = {
    "api_key.created": "An API key was made",
    "api_key.revoked": "An API key was revoked",
    "blob.damaged": "A stored blob does not verify; it is out of service",
    "group.created": "The group was created",
    "group.deleted": "The group was deleted",
    "group.failed": "The import failed",
    "group.imported": "The image is stored",
    "group.started": "The group was started",
    "group.stopped": "The group was stopped",
    "group.updated": "The group was changed",
    "instance.allocating": "A node was designated",
    "instance.creating": "The node has the image",
    "instance.downloading": "The node is pulling",
    "instance.lapsed": "The designation ended without a pull",
    "instance.reallocated": "The node was freed for another",
    "instance.recreated": "The container is made anew",
    "instance.restarted": "The container was restarted",
    "instance.running": "The container runs",
    "instance.stopping": "The container is stopping",
    "node.created": "The node was enrolled",
    "node.enrolled": "The node was given its first certificate",
    "node.offered": "The node was offered an enrolment",
    "node.refused": "An enrolment was refused",
    "node.renewed": "The node's certificate was replaced",
    "node.revoked": "The node was struck off",
    "organization.created": "The organization was created",
    "portal.refused": "A sign-in to the portal was refused",
    "portal.signed_in": "Somebody signed in to the portal",
    "portal.signed_out": "Somebody signed out of the portal",
    "storage.collected": "Unused blobs were removed",
    "token.completed": "The pull is complete; the token is spent",
    "token.exchanged": "The node was given another bearer of its session",
    "token.minted": "A pull token was minted",
    "token.redeemed": "The node redeemed its token and may pull",
    "token.refused": "A pull was refused",
    "token.revoked": "A pull token was revoked",
}

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

EVENT_TYPES: Final = tuple(_EVENTS)


def event_sentence(type_: str) -> str:
    """Say what an event means; its type itself where there is no sentence for it."""
    return _EVENTS.get(type_, type_)


def cause_sentence(cause: str) -> str:
    """Say why something was refused."""
    return _CAUSES.get(cause, cause)
