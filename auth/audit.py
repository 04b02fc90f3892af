"""Types of events in the audit trail."""

from enum import StrEnum
from typing import Self


class EventType(StrEnum):
    """Base of the enums of event types. A member is a dotted name, `family.what_happened`.

    Attributes:
        sentence: Description for the portal and the reference; plain text without a full stop.
    """

    sentence: str

    def __new__(cls, name: str, sentence: str) -> Self:
        """Create a member from its name and its sentence."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.sentence = sentence
        return member

    @property
    def family(self) -> str:
        """The part of the name in front of the full stop."""
        return self.value.partition(".")[0]


class AuthEventType(EventType):
    """Events of the token authority and of the enrolment of nodes."""

    NODE_ENROLLED = "node.enrolled", "The node got its first certificate"
    NODE_RENEWED = "node.renewed", "The node's certificate was replaced"
    NODE_REFUSED = (
        "node.refused",
        "A node's request for a certificate or for its encryption key was refused; the cause says why",
    )
    TOKEN_MINTED = "token.minted", "A pull token was minted"
    TOKEN_REDEEMED = "token.redeemed", "The node redeemed its token and may pull"
    TOKEN_KEYED = "token.keyed", "The node got the keys of encrypted layers, wrapped for its own key"
    TOKEN_EXCHANGED = "token.exchanged", "The node got another bearer token for its session"
    TOKEN_COMPLETED = "token.completed", "The pull is complete; the token is used up"
    TOKEN_REVOKED = "token.revoked", "A token and its session were revoked"
    TOKEN_REFUSED = (
        "token.refused",
        "A pull was refused; the client does not learn the actual cause",
    )
