"""What the token authority asks of the outside."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol

Network = IPv4Network | IPv6Network


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
    """

    node_id: str
    binding: Binding
    secret_hash: bytes | None = field(default=None, repr=False)
    networks: tuple[Network, ...] = ()
    revoked_at: datetime | None = None


class NodeDirectory(Protocol):
    """Who the nodes are."""

    async def get(self, node_id: str) -> Node | None:
        """Return a node, struck off or not; None when it was never enrolled."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One line of the audit trail; holds identifiers and causes, never a secret.

    Attributes:
        type: Dotted name: `token.minted`, `token.redeemed`, `token.refused`, `token.completed`, `token.revoked` ...
        cause: A `auth.errors.Cause` value on refusals.
        source: The caller's network address.
        detail: Further facts, JSON-serialisable.
    """

    type: str
    organization: str | None = None
    token_id: str | None = None
    node_id: str | None = None
    cause: str | None = None
    source: str | None = None
    detail: Mapping[str, object] = field(default_factory=dict)


class AuditTrail(Protocol):
    """Where events go."""

    async def record(self, event: AuditEvent) -> None:
        """Append one event durably."""


class Clock(Protocol):
    """The time, injected so that tests own it."""

    def now(self) -> datetime:
        """Return the present, aware, in UTC."""
