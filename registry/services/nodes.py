"""Nodes: created, offered enrolment, and revoked."""

from collections.abc import Sequence
from dataclasses import dataclass

from auth.authority import Authority
from auth.networks import Network
from auth.nodes.enrolment import EnrolmentOffer, NodeEnrolment
from auth.ports import AuditEvent, Binding, Node
from auth.secret import Secret, hash_secret, new_node_secret
from registry.audit.trail import EventLog
from registry.errors import ConflictError, NotFoundError
from registry.model.nodes import NodeRegistry


@dataclass(frozen=True, slots=True)
class NewNode:
    """A new node, with what it proves itself with: a secret, or an offer to enrol for a certificate."""

    node_id: str
    secret: Secret | None = None
    offer: EnrolmentOffer | None = None


class Nodes:
    """Use-cases of nodes."""

    def __init__(
        self, nodes: NodeRegistry, enrolment: NodeEnrolment, authority: Authority, events: EventLog
    ) -> None:
        self._nodes = nodes
        self._enrolment = enrolment
        self._authority = authority
        self._events = events

    async def create(
        self,
        node_id: str,
        binding: Binding,
        networks: tuple[Network, ...] = (),
        *,
        reads_zstd: bool | None,
        source: str,
    ) -> NewNode:
        """Create a node. Raises ConflictError: its id was used before."""
        secret = new_node_secret() if binding is Binding.SECRET else None
        secret_hash = hash_secret(secret) if secret else None
        await self._nodes.add(Node(node_id, binding, secret_hash, networks, reads_zstd=reads_zstd))
        await self._record("node.created", node_id, source)
        offer = None if secret else await self._enrolment.offer(node_id)
        return NewNode(node_id, secret, offer)

    async def offer(self, node_id: str, *, source: str) -> EnrolmentOffer:
        """Offer a node another enrolment, because its secret or its certificate has expired.

        Raises:
            NotFoundError: There is no such node.
            ConflictError: It is bound by a secret, or was revoked.
        """
        node = await self.get(node_id)
        if node.binding is not Binding.CERTIFICATE:
            raise ConflictError("the node is bound by a secret; create another to bind by certificate")
        if node.revoked_at is not None:
            raise ConflictError("the node was struck off; create another")
        offer = await self._enrolment.offer(node_id)
        await self._record("node.offered", node_id, source)
        return offer

    async def get(self, node_id: str) -> Node:
        """Return a node, revoked or not. Raises NotFoundError."""
        node = await self._nodes.get(node_id)
        if node is None:
            raise NotFoundError("there is no such node")
        return node

    async def list(self) -> Sequence[Node]:
        """Return all nodes by id."""
        return await self._nodes.list()

    async def revoke(self, node_id: str, *, source: str) -> None:
        """Revoke a node and its tokens. Its id cannot be used again. Raises NotFoundError."""
        # The node first: then a token minted in between is refused when it is redeemed.
        if not await self._nodes.revoke(node_id):
            raise NotFoundError("there is no such node")
        await self._authority.revoke_node(node_id)
        await self._record("node.revoked", node_id, source)

    async def _record(self, event: str, node_id: str, source: str) -> None:
        await self._events.record(AuditEvent(event, node_id=node_id, source=source))
