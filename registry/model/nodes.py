"""Port for managing nodes, and the container runtimes that they may have."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from auth.ports import AuditEvent, Node


class Runtime(StrEnum):
    """Container runtime of a node, which decides how it can decrypt layers (docs/nodes.md)."""

    CONTAINERD = "containerd"
    CRI_O = "cri-o"
    DOCKER = "docker"
    PODMAN = "podman"
    PROXY = "proxy"  # `crisper node proxy`, for Docker
    SKOPEO = "skopeo"


class NodeRegistry(Protocol):
    """Store of nodes for operators; `auth.ports.NodeDirectory` is the read-only part."""

    async def get(self, node_id: str) -> Node | None:
        """Return a node, also if it is revoked, or None."""

    async def add(self, node: Node, event: AuditEvent) -> None:
        """Insert a node with the event. Raises ConflictError: the id is or was in use."""

    async def set_platform(self, node_id: str, platform: str) -> None:
        """Record the platform that a node has reported."""

    async def set_encryption_key(
        self, node_id: str, pem: str, thumbprint: str, runtime: str | None, event: AuditEvent
    ) -> Node | None:
        """Set a node's encryption key, and keep the one before, with the event if anything changes.

        Args:
            node_id: Id of the node.
            pem: Public key, normalized.
            thumbprint: RFC 7638 thumbprint of the key.
            runtime: Runtime that has the key; None keeps the recorded one.
            event: Stored with a change; the thumbprints and the runtime are added to its detail.

        Returns:
            The node after the change; None if there is no such node, or it is revoked.
        """

    async def set_secret(self, node_id: str, secret_hash: bytes, event: AuditEvent) -> bool:
        """Replace a node's secret, with the event. Returns False if it was revoked meanwhile."""

    async def revoke(self, node_id: str, event: AuditEvent) -> bool:
        """Revoke a node and drop its encryption keys, with the event unless it is already revoked.

        Its id cannot be used again. Returns False if there is no such node.
        """

    async def list(self) -> Sequence[Node]:
        """Return all nodes, ordered by id."""
