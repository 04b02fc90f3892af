"""Port for managing nodes."""

from collections.abc import Sequence
from typing import Protocol

from auth.ports import AuditEvent, Node


class NodeRegistry(Protocol):
    """Store of nodes for operators; `auth.ports.NodeDirectory` is the read-only part."""

    async def get(self, node_id: str) -> Node | None:
        """Return a node, also if it is revoked, or None."""

    async def add(self, node: Node, event: AuditEvent) -> None:
        """Insert a node with the event. Raises ConflictError: the id is or was in use."""

    async def set_platform(self, node_id: str, platform: str) -> None:
        """Record the platform that a node has reported."""

    async def revoke(self, node_id: str, event: AuditEvent) -> bool:
        """Revoke a node, with the event unless it is already revoked.

        Its id cannot be used again. Returns False if there is no such node.
        """

    async def list(self) -> Sequence[Node]:
        """Return all nodes, ordered by id."""
