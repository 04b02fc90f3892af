"""What the authority, the realm and the verifier share."""

from dataclasses import dataclass

from auth.ports import AuditTrail, Clock, TokenLedger


@dataclass(frozen=True, slots=True)
class AuthContext:
    """Dependencies and names for all tokens of one registry.

    Attributes:
        ledger: Ledger of all tokens.
        audit: Audit trail.
        clock: Source of the current time.
        issuer: `iss` of all tokens.
        service: `aud` of all tokens: the registry's name.
    """

    ledger: TokenLedger
    audit: AuditTrail
    clock: Clock
    issuer: str
    service: str
