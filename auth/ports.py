"""What the token authority asks of the outside."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal, Protocol

from auth.audit import EventType
from auth.networks import Network
from auth.records import NewToken, Redemption, TokenState, TokenView


class Binding(StrEnum):
    """How a node proves that it is itself (tokens.md, "Binding to the node")."""

    CERTIFICATE = "certificate"
    SECRET = "secret"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Node:
    """A machine that may be given pull tokens.

    Attributes:
        secret_hash: `auth.binding.hash_secret` of the node's secret; None unless bound by secret.
        networks: Source networks that it may come from; empty means any.
        revoked_at: When it was struck off, else None.
        reads_zstd: Whether its engine reads layers in zstd; None when nobody said.
    """

    node_id: str
    binding: Binding
    secret_hash: bytes | None = field(default=None, repr=False)
    networks: tuple[Network, ...] = ()
    revoked_at: datetime | None = None
    reads_zstd: bool | None = None


class NodeDirectory(Protocol):
    """Who the nodes are."""

    async def get(self, node_id: str) -> Node | None:
        """Return a node, struck off or not; None when it was never enrolled."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One line of the audit trail; holds identifiers and causes, never a secret.

    Attributes:
        cause: A `auth.errors.Cause` value on refusals.
        source: The caller's network address.
        detail: Further facts, JSON-serialisable.
    """

    type: EventType
    organization: str | None = None
    token_id: str | None = None
    node_id: str | None = None
    cause: str | None = None
    source: str | None = None
    detail: Mapping[str, object] = field(default_factory=dict)


class AuditTrail(Protocol):
    """Where events go that are not part of a transaction of the catalog."""

    async def record(self, event: AuditEvent) -> None:
        """Append one event durably."""


class TokenLedger(Protocol):
    """Knows whether a token may still be used; `auth.ledger.RedisTokenLedger` says what each method does."""

    async def mint(self, token: NewToken) -> None:
        """Enter a token."""

    async def redeem(self, token_id: str, node_id: str, session_id: str) -> Redemption:
        """Open a token's session for a proven node, or answer the session that this node opened."""

    async def begin(
        self, token_id: str, session_id: str, response_id: str, *, blob: str | None, length_bytes: int
    ) -> int:
        """Let one request of a session start; return how many bytes may be sent before a report."""

    async def report(
        self, token_id: str, response_id: str, *, blob: str, start: int, sent: int, length: int, ended: bool
    ) -> int:
        """Take in what a response has delivered; return how many bytes in all may be sent before the next."""

    async def end(self, token_id: str, state: Literal[TokenState.DONE, TokenState.REVOKED]) -> TokenState:
        """Complete or revoke a token; return the state that it had before."""

    async def show(self, token_id: str) -> TokenView:
        """Return a token as it stands now."""

    async def revoke_node(self, node_id: str) -> int:
        """Revoke every token of a node; return how many."""

    async def revoke_group(self, group_id: str, *, barred: bool = True) -> int:
        """Revoke every token of a group; return how many."""

    async def revoke_organization(self, name: str) -> int:
        """Revoke every token of an organization; return how many."""


class Clock(Protocol):
    """The time, injected so that tests own it."""

    def now(self) -> datetime:
        """Return the present, aware, in UTC."""
