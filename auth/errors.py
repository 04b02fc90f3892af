"""Everything that can go wrong in the token authority, drawn.

AuthError
├── RefusedError            a proof that is not accepted; `cause` is for the audit trail, never for the caller
│   └── OutsideScopeError   a good session that asks for something outside its image
├── MintRefusedError        the group or organization is being revoked: no token is made for it
├── TtlOutOfRangeError      a lifetime that no token may have
├── CertificateRequestError a signing request that no node certificate is made for
├── KeyMaterialError        signing keys or a CA on disk that are missing, exposed or not what they say
├── TokenNotFoundError      no such token (to its operator, not to a node)
└── LedgerUnavailableError  the ledger does not answer: nothing may be granted
"""

from enum import StrEnum


class AuthError(Exception):
    """Root of every error that this package raises on purpose."""


class Cause(StrEnum):
    """Why a proof was refused. Recorded and counted; all are answered alike."""

    MALFORMED = "malformed"
    FORGED = "forged"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    UNKNOWN = "unknown"
    REPLAYED = "replayed"
    REVOKED = "revoked"
    WRONG_NODE = "wrong_node"
    WRONG_SECRET = "wrong_secret"  # noqa: S105
    WRONG_PEER = "wrong_peer"
    WRONG_NETWORK = "wrong_network"
    NODE_UNKNOWN = "node_unknown"
    NODE_REVOKED = "node_revoked"
    FENCED = "fenced"
    SESSION_OVER = "session_over"
    OUTSIDE_SCOPE = "outside_scope"
    OVER_BUDGET = "over_budget"
    LEDGER_UNAVAILABLE = "ledger_unavailable"


class RefusedError(AuthError):
    """A proof that is not accepted.

    Attributes:
        cause: The true reason, for the audit trail and metrics only.
        token_id: The token's `jti` where it could be trusted enough to name, else None.
        node_id: The node that was claimed, else None.
        organization: Whose token it is, where that is certain, else None.
    """

    def __init__(
        self,
        cause: Cause,
        *,
        token_id: str | None = None,
        node_id: str | None = None,
        organization: str | None = None,
    ) -> None:
        super().__init__(cause.value)
        self.cause = cause
        self.token_id = token_id
        self.node_id = node_id
        self.organization = organization


class OutsideScopeError(RefusedError):
    """A good session that asks for something outside its image."""


class MintRefusedError(AuthError):
    """The node, group or organization is being revoked: no token is made (docs/tokens.md, "Revocation").

    Attributes:
        token_id: The token that was not made.
    """

    def __init__(self, token_id: str) -> None:
        super().__init__("revoked while, or shortly before, the token was made")
        self.token_id = token_id


class TtlOutOfRangeError(AuthError):
    """A lifetime that no token may have.

    Attributes:
        ttl_s: What was asked, in seconds.
        max_s: The longest lifetime, in seconds; the shortest is 1.
    """

    def __init__(self, ttl_s: int, max_s: int) -> None:
        super().__init__(f"a pull token lives from 1 to {max_s} s, not {ttl_s}")
        self.ttl_s = ttl_s
        self.max_s = max_s


class CertificateRequestError(AuthError):
    """A signing request that no node certificate is made for; the message says what to send."""


class KeyMaterialError(AuthError):
    """Signing keys or a CA on disk that are missing, exposed or not what they say."""


class TokenNotFoundError(AuthError):
    """No such token."""


class LedgerUnavailableError(AuthError):
    """The ledger does not answer: nothing may be granted."""
