"""Nodes, and the registry that operators change."""

from collections.abc import Sequence
from typing import Protocol

from auth.ports import AuditEvent, Node


class NodeRegistry(Protocol):
    """Nodes, with the means to change them (`auth.ports.NodeDirectory` only reads)."""

    async def get(self, node_id: str) -> Node | None:
        """Return a node, revoked or not."""

    async def add(self, node: Node, event: AuditEvent) -> None:
        """Insert, with the event. Raises ConflictError: the id was used before."""

    async def revoke(self, node_id: str, event: AuditEvent) -> bool:
        """Revoke a node, with the event unless it is revoked already. False when there is none.

        Its id is never given out again.
        """

    async def list(self) -> Sequence[Node]:
        """Return all nodes by id."""
