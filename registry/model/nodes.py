"""Nodes, and the registry that operators change."""

from collections.abc import Sequence
from typing import Protocol

from auth.ports import Node


class NodeRegistry(Protocol):
    """Nodes, with the means to change them (`auth.ports.NodeDirectory` only reads)."""

    async def get(self, node_id: str) -> Node | None:
        """Return a node, struck off or not."""

    async def add(self, node: Node) -> None:
        """Insert. Raises ConflictError: the id was used before."""

    async def revoke(self, node_id: str) -> bool:
        """Strike a node off; its id is never given out again. False when there is none."""

    async def list(self) -> Sequence[Node]:
        """Return all nodes by id."""
