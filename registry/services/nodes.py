"""The use-cases of nodes: create, offer enrolment, set the encryption key, list, revoke."""

import asyncio
from dataclasses import dataclass

from auth.audit import EventType
from auth.authority import Authority
from auth.networks import Network
from auth.nodes.enrolment import EnrolmentOffer, NodeEnrolment
from auth.ports import AuditEvent, Binding, Node
from auth.secret import Secret, hash_secret, new_node_secret
from registry.audit.types import RegistryEventType
from registry.catalog.nodes import SqlNodeRegistry
from registry.errors import ConflictError, InvalidInputError, NodeKeyError, NotFoundError
from registry.model.nodes import Runtime
from registry.oci.node_key import NodeKey


@dataclass(frozen=True, slots=True)
class NewNode:
    """A new node with its means of authentication: a secret, or an offer to enrol for a certificate."""

    node_id: str
    secret: Secret | None = None
    offer: EnrolmentOffer | None = None


class Nodes:
    """Creates, lists and revokes nodes, and offers them enrolment."""

    def __init__(self, nodes: SqlNodeRegistry, enrolment: NodeEnrolment, authority: Authority) -> None:
        self._nodes = nodes
        self._enrolment = enrolment
        self._authority = authority

    async def create(
        self,
        node_id: str,
        binding: Binding,
        networks: tuple[Network, ...] = (),
        *,
        reads_zstd: bool | None,
        platform: str | None = None,
        encryption_key: str | None = None,
        runtime: Runtime | None = None,
        source: str,
    ) -> NewNode:
        """Create a node.

        Args:
            encryption_key: Its public encryption key, PEM.
            runtime: Container runtime that has the private half of the key.

        Raises:
            InvalidInputError: The encryption key is not acceptable.
            ConflictError: The id is or was in use.
        """
        key = await _read_key(encryption_key, "encryption_key") if encryption_key is not None else None
        secret = new_node_secret() if binding is Binding.SECRET else None
        node = Node(
            node_id,
            binding,
            hash_secret(secret) if secret else None,
            networks,
            reads_zstd=reads_zstd,
            platform=platform,
            encryption_key=key.pem if key else None,
            key_thumbprint=key.thumbprint if key else None,
            runtime=runtime,
        )
        facts = {"key_thumbprint": node.key_thumbprint, "runtime": node.runtime}
        detail = {name: fact for name, fact in facts.items() if fact is not None}
        await self._nodes.add(node, _event(RegistryEventType.NODE_CREATED, node_id, source, **detail))
        offer = None if secret else await self._enrolment.offer(node_id)
        return NewNode(node_id, secret, offer)

    async def offer(self, node_id: str, *, source: str) -> EnrolmentOffer:
        """Offer a node another enrolment, because its secret or its certificate has expired.

        Raises:
            NotFoundError: There is no such node.
            ConflictError: The node is bound by a secret, or was revoked.
        """
        node = await self.get(node_id)
        if node.binding is not Binding.CERTIFICATE:
            raise ConflictError("the node is bound by a secret; create another to bind by certificate")
        if node.revoked_at is not None:
            raise ConflictError("the node was deleted; create another")
        return await self._enrolment.offer(node_id, _event(RegistryEventType.NODE_OFFERED, node_id, source))

    async def rotate_secret(self, node_id: str, *, source: str) -> Secret:
        """Replace a node's secret and revoke its tokens, which contain the old one's hash.

        Raises:
            NotFoundError: There is no such node.
            ConflictError: The node is bound by a certificate, or was revoked.
        """
        node = await self.get(node_id)
        if node.binding is not Binding.SECRET:
            raise ConflictError("the node is bound by a certificate: offer it another enrolment instead")
        secret = new_node_secret()
        event = _event(RegistryEventType.NODE_SECRET_CHANGED, node_id, source)
        if not await self._nodes.set_secret(node_id, hash_secret(secret), event):
            raise ConflictError("the node was deleted; create another")
        await self._authority.revoke_node(node_id)  # afterwards: a later token has the new secret's hash
        return secret

    async def get(self, node_id: str) -> Node:
        """Return a node, revoked or not. Raises NotFoundError."""
        node = await self._nodes.get(node_id)
        if node is None:
            raise NotFoundError("there is no such node")
        return node

    async def record_platform(self, node_id: str, platform: str) -> None:
        """Record the platform that a node reports when it enrolls."""
        await self._nodes.set_platform(node_id, platform)

    async def set_encryption_key(
        self, node_id: str, public_key: str, runtime: Runtime | None, *, source: str
    ) -> Node:
        """Set a node's encryption key. The same key and runtime change nothing.

        The key before stays valid for tokens that were minted for it.

        Args:
            node_id: Id of the node.
            public_key: PEM (SubjectPublicKeyInfo).
            runtime: Container runtime that has the private half; None keeps the recorded one.
            source: Network address of the caller.

        Raises:
            NotFoundError: There is no such node.
            ConflictError: The node was revoked.
            InvalidInputError: The key is not acceptable.
        """
        await self.get(node_id)
        key = await _read_key(public_key, "public_key")
        event = _event(RegistryEventType.NODE_KEY_CHANGED, node_id, source)
        node = await self._nodes.set_encryption_key(node_id, key.pem, key.thumbprint, runtime, event)
        if node is None:
            raise ConflictError("the node was deleted; create another")
        return node

    async def revoke(self, node_id: str, *, source: str) -> None:
        """Revoke a node and its tokens. Its id cannot be used again.

        Redemption consults only the ledger, so tokens are revoked before and after the change. Before, so
        that a crash in between leaves a node without tokens, which can be deleted again. After, to cover a
        token that was minted in between (`registry.services.pull_tokens`).

        Raises:
            NotFoundError: There is no such node.
        """
        await self.get(node_id)
        await self._authority.revoke_node(node_id)
        if not await self._nodes.revoke(node_id, _event(RegistryEventType.NODE_REVOKED, node_id, source)):
            raise NotFoundError("there is no such node")
        await self._authority.revoke_node(node_id)


async def _read_key(pem: str, field: str) -> NodeKey:
    """Parse a public key in a thread, because a large RSA key takes long. Raises InvalidInputError."""
    try:
        return await asyncio.to_thread(NodeKey.parse, pem)
    except NodeKeyError as error:
        raise InvalidInputError(f"{field}: {error}", {field: [str(error)]}) from None


def _event(type_: EventType, node_id: str, source: str, **detail: str) -> AuditEvent:
    return AuditEvent(type_, node_id=node_id, source=source, detail=detail)
