"""The certificate that a caller shows, once it has been judged (docs/tokens.md, "Binding"; pure)."""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

NODE_URN: Final = "urn:crisper:node:"
"""Before the node's id, the URI that a node's certificate carries among its alternative names."""


class Fault(StrEnum):
    """Why a certificate speaks for nobody."""

    MALFORMED = "malformed"
    FOREIGN = "foreign"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    WRONG_PURPOSE = "wrong_purpose"
    UNNAMED = "unnamed"


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """A node's certificate, verified for this very moment; only `auth.nodes.trust` makes one.

    Attributes:
        node_id: Whom it speaks for.
        thumbprint: base64url of its SHA-256 (RFC 8705, `x5t#S256`); for the audit trail: certificates
            renew within a pull, so nothing is bound to it.
    """

    node_id: str
    thumbprint: str
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class RejectedCertificate:
    """A certificate that was shown and speaks for nobody."""

    fault: Fault
    thumbprint: str


ShownCertificate = PeerCertificate | RejectedCertificate


def proves(shown: ShownCertificate | None, node_id: str) -> bool:
    """Tell whether what was shown proves that its holder is this node."""
    return isinstance(shown, PeerCertificate) and shown.node_id == node_id


def described(shown: ShownCertificate | None) -> Mapping[str, object]:
    """Return what the audit trail keeps of it: empty when nothing was shown."""
    if shown is None:
        return {}
    facts: dict[str, object] = {"x5t#S256": shown.thumbprint}
    if isinstance(shown, RejectedCertificate):
        facts["fault"] = shown.fault.value
    return facts


def thumbprint(der: bytes) -> str:
    """Return a certificate's `x5t#S256` (RFC 8705, section 3.1)."""
    return urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
