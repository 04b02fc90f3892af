"""Port for managing nodes."""

from collections.abc import Sequence
from typing import Protocol

from auth.ports import Node


class NodeRegistry(Protocol):
    """Store of nodes for operators; `auth.ports.NodeDirectory` is the read-only part."""

    async def get(self, node_id: str) -> Node | None:
        """Return a node, also if it is revoked."""

    async def add(self, node: Node) -> None:
        """Insert a node. Raises ConflictError: the id is or was in use."""

    async def revoke(self, node_id: str) -> bool:
        """Revoke a node. Its id cannot be used again. Returns False if there is no such node."""

    async def list(self) -> Sequence[Node]:
        """Return all nodes, ordered by id."""
