"""Ports and shared values of the token authority."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal, Protocol

from auth.actor import Actor, current_actor
from auth.audit import EventType
from auth.networks import Network
from auth.records import NewToken, NodeBinding, NodeProof, Redemption, TokenState, TokenView


class Binding(StrEnum):
    """How a node authenticates (docs/tokens.md, "Binding to the node")."""

    CERTIFICATE = "certificate"
    SECRET = "secret"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Node:
    """A machine that can pull with tokens.

    Attributes:
        secret_hash: `auth.secret.hash_secret` of the node's secret; None unless bound by secret.
        networks: Source networks that it may come from; empty means any.
        revoked_at: Time of its revocation, else None.
        reads_zstd: Whether its engine supports zstd layers; None if unknown.
        platform: Platform that it runs, as `linux/arm64`; None if unknown.
        encryption_key: Its public encryption key, normalized PEM; None if it has announced none.
        key_thumbprint: RFC 7638 thumbprint of `encryption_key`.
        previous_encryption_key: Key before the last change, for tokens that were minted for that key.
        previous_key_thumbprint: RFC 7638 thumbprint of `previous_encryption_key`.
        runtime: Container runtime that decrypts layers with the key; None if it is unknown.
    """

    node_id: str
    binding: Binding
    secret_hash: bytes | None = field(default=None, repr=False)
    networks: tuple[Network, ...] = ()
    revoked_at: datetime | None = None
    reads_zstd: bool | None = None
    platform: str | None = None
    encryption_key: str | None = None
    key_thumbprint: str | None = None
    previous_encryption_key: str | None = None
    previous_key_thumbprint: str | None = None
    runtime: str | None = None

    @property
    def node_binding(self) -> NodeBinding:
        """Return the data of the node that a token's record contains."""
        by_certificate = self.binding is Binding.CERTIFICATE
        return NodeBinding(by_certificate, b"" if by_certificate else self.secret_hash or b"", self.networks)


class NodeDirectory(Protocol):
    """Read-only directory of nodes."""

    async def get(self, node_id: str) -> Node | None:
        """Return a node, also if it is revoked, or None."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Event in the audit trail. It contains ids and causes, never a secret.

    Attributes:
        cause: Value of `auth.errors.Cause` for refusals.
        source: Network address of the caller.
        detail: Additional facts, JSON-serializable.
        actor: Who caused it; by default the actor of the running request.
    """

    type: EventType
    organization: str | None = None
    token_id: str | None = None
    node_id: str | None = None
    cause: str | None = None
    source: str | None = None
    detail: Mapping[str, object] = field(default_factory=dict)
    actor: Actor | None = field(default_factory=current_actor)


class AuditTrail(Protocol):
    """Audit trail for events that are not part of a catalog transaction."""

    async def record(self, event: AuditEvent) -> None:
        """Append an event durably."""


class TokenLedger(Protocol):
    """Ledger of the state of all tokens. `auth.ledger.RedisTokenLedger` documents the methods."""

    async def mint(self, token: NewToken) -> None:
        """Add a token."""

    async def redeem(
        self,
        token_id: str,
        node_id: str,
        session_id: str,
        proof: NodeProof | None = None,
        event: AuditEvent | None = None,
    ) -> Redemption:
        """Open a token's session for its node and record it, or return the session that this node opened."""

    async def check(self, token_id: str, node_id: str, proof: NodeProof) -> NodeBinding:
        """Check everything that a redemption checks, without redeeming."""

    async def begin(
        self, token_id: str, session_id: str, response_id: str, *, blob: str | None, length_bytes: int
    ) -> int:
        """Start one request of a session. Returns the bytes that may be sent before a report."""

    async def report(
        self,
        token_id: str,
        response_id: str,
        *,
        blob: str,
        start: int,
        sent: int,
        length: int,
        ended: bool,
        unread: int = 0,
    ) -> int:
        """Record a response's progress. Returns the total bytes that may be sent before the next report."""

    def stepped_since(self, monotonic_s: float) -> bool:
        """Return whether the ledger's clock has stepped so far that it may have dropped a valid record."""

    async def end(self, token_id: str, state: Literal[TokenState.DONE, TokenState.REVOKED]) -> TokenState:
        """Complete or revoke a token. Returns its previous state."""

    async def show(self, token_id: str) -> TokenView:
        """Return the state of a token and its session."""

    async def revoke_node(self, node_id: str) -> int:
        """Revoke all tokens of a node, and block new ones for a while. Returns their number."""

    async def revoke_group(self, group_id: str, *, barred: bool = True) -> int:
        """Revoke all tokens of a group. Returns their number."""

    async def revoke_organization(self, name: str) -> int:
        """Revoke all tokens of an organization. Returns their number."""


class Clock(Protocol):
    """Source of the current time, injected so that tests can control it."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
