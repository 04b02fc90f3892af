"""How a node proves that it is the one a token was made for (docs/tokens.md, "Binding")."""

from auth.errors import Cause, RefusedError
from auth.networks import within
from auth.peer import ShownCertificate, proves
from auth.ports import Binding, Node, NodeDirectory
from auth.secret import Secret, matches


class NodeProofs:
    """Checks what a node shows against the directory.

    Args:
        directory: Who the nodes are.
    """

    def __init__(self, directory: NodeDirectory) -> None:
        self._directory = directory

    async def check(
        self, node_id: str, secret: Secret | None, source: str, peer: ShownCertificate | None = None
    ) -> Node:
        """Return the node, proven.

        Args:
            node_id: Who it says it is.
            secret: The secret that it shows, if any.
            source: The network address that it comes from.
            peer: The certificate that it shows, if any.

        Raises:
            RefusedError: It is unknown or struck off, does not prove itself, or comes from elsewhere.
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
