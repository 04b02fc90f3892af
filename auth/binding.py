"""Authentication of nodes (docs/tokens.md, "Binding")."""

from auth.errors import Cause, RefusedError
from auth.networks import within
from auth.peer import ShownCertificate, proves
from auth.ports import Binding, Node, NodeDirectory
from auth.secret import Secret, matches


class NodeProofs:
    """Authenticates nodes against the node directory.

    Args:
        directory: Directory of nodes.
    """

    def __init__(self, directory: NodeDirectory) -> None:
        self._directory = directory

    async def check(
        self, node_id: str, secret: Secret | None, source: str, peer: ShownCertificate | None = None
    ) -> Node:
        """Authenticate a node and return it.

        Args:
            node_id: Claimed node id.
            secret: Secret that the node presents, if any.
            source: Network address of the node.
            peer: Certificate that the node presents, if any.

        Raises:
            RefusedError: The node is unknown or revoked, its secret or certificate is wrong, or its network
                address is not allowed.
        """
        node = await self._directory.get(node_id)
        if node is None:
            raise RefusedError(Cause.NODE_UNKNOWN, node_id=node_id)
        if node.revoked_at is not None:
            raise RefusedError(Cause.NODE_REVOKED, node_id=node_id)
        if node.binding is Binding.CERTIFICATE:
            if not proves(peer, node_id):
                raise RefusedError(Cause.WRONG_PEER, node_id=node_id)
        elif secret is None or node.secret_hash is None or not matches(secret, node.secret_hash):
            raise RefusedError(Cause.WRONG_SECRET, node_id=node_id)
        if node.networks and not within(source, node.networks):
            raise RefusedError(Cause.WRONG_NETWORK, node_id=node_id)
        return node
