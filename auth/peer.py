"""Result of verifying a caller's certificate (docs/tokens.md, "Binding"). No I/O."""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

NODE_URN: Final = "urn:crisper:node:"
"""Prefix of the URI with the node's id in the alternative names of a node's certificate."""


class Fault(StrEnum):
    """Reason for the rejection of a certificate."""

    MALFORMED = "malformed"
    FOREIGN = "foreign"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    WRONG_PURPOSE = "wrong_purpose"
    UNNAMED = "unnamed"


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """A node's certificate, verified at the current time. Only `auth.nodes.trust` creates it.

    Attributes:
        node_id: Id of the node.
        thumbprint: base64url of its SHA-256 (RFC 8705, `x5t#S256`), for the audit trail only. Tokens are
            not bound to it, because a node may renew its certificate during a pull.
    """

    node_id: str
    thumbprint: str
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class RejectedCertificate:
    """A rejected certificate."""

    fault: Fault
    thumbprint: str


ShownCertificate = PeerCertificate | RejectedCertificate


def proves(shown: ShownCertificate | None, node_id: str) -> bool:
    """Return whether the presented certificate identifies this node."""
    return isinstance(shown, PeerCertificate) and shown.node_id == node_id


def described(shown: ShownCertificate | None) -> Mapping[str, object]:
    """Return the facts for the audit trail; empty if no certificate was presented."""
    if shown is None:
        return {}
    facts: dict[str, object] = {"x5t#S256": shown.thumbprint}
    if isinstance(shown, RejectedCertificate):
        facts["fault"] = shown.fault.value
    return facts


def thumbprint(der: bytes) -> str:
    """Return a certificate's `x5t#S256` (RFC 8705, section 3.1)."""
    return urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
