"""Tree of the token authority's errors.

AuthError
├── RefusedError            a refused token, secret or certificate; `cause` is never shown to the caller
│   └── OutsideScopeError   a valid session or certificate, used for something it gives no access to
├── MintRefusedError        the node, group or organization is being revoked
├── TtlOutOfRangeError      an invalid token lifetime
├── CertificateRequestError an unacceptable certificate signing request
├── KeyMaterialError        signing keys or a CA on disk are missing, invalid, or readable by others
├── TokenNotFoundError      no such token (shown to operators, never to nodes)
└── LedgerUnavailableError  the ledger does not answer, so nothing is granted
"""

from enum import StrEnum


class AuthError(Exception):
    """Root of all errors that this package raises."""


class Cause(StrEnum):
    """Reason of a refusal, for audit trail and metrics. Callers get the same answer for all causes."""

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
    """A refused token, secret or certificate.

    Attributes:
        cause: The actual reason, for audit trail and metrics only.
        token_id: The token's `jti` if its signature was valid, else None.
        node_id: The claimed node, else None.
        organization: The token's organization if its signature was valid, else None.
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
    """A valid session requests something outside its image, or a node acts on another node."""


class MintRefusedError(AuthError):
    """The node, group or organization is being revoked, so no token is minted (docs/tokens.md, "Revocation").

    Attributes:
        token_id: Id of the token that was not minted.
    """

    def __init__(self, token_id: str) -> None:
        super().__init__(
            "a revocation was requested during the mint or within the last minute: retry in a minute"
        )
        self.token_id = token_id


class TtlOutOfRangeError(AuthError):
    """An invalid token lifetime.

    Attributes:
        ttl_s: Requested lifetime in seconds.
        max_s: Maximum lifetime in seconds; the minimum is 1.
    """

    def __init__(self, ttl_s: int, max_s: int) -> None:
        super().__init__(f"a pull token's lifetime must be 1 to {max_s} s, not {ttl_s} s")
        self.ttl_s = ttl_s
        self.max_s = max_s


class CertificateRequestError(AuthError):
    """An unacceptable certificate signing request. The message says what to send."""


class KeyMaterialError(AuthError):
    """Signing keys or a CA on disk are missing, invalid, or readable by others."""


class TokenNotFoundError(AuthError):
    """No such token."""


class LedgerUnavailableError(AuthError):
    """The ledger does not answer, so nothing is granted."""
