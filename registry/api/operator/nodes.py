"""The operator API's nodes, and the operations that nodes call themselves: certificate, encryption key."""

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, ClassVar, Literal

from aiohttp import hdrs
from pydantic import Field

from auth import ports
from auth.nodes.enrolment import EnrolmentOffer, NodeEnrolment
from auth.secret import Secret
from registry.api.endpoint import Access, Call, Endpoint
from registry.api.http.peers import peer_of
from registry.api.operator.shapes import Body, Document, Instant, NodeId, PageQuery, PlatformName
from registry.catalog.nodes import SqlNodeRegistry
from registry.model.nodes import Runtime
from registry.services import nodes

PublicKey = Annotated[str, Field(min_length=1, max_length=16 << 10)]
"""A public key in PEM (SubjectPublicKeyInfo)."""


class NewNode(Body):
    """A node to be created.

    Attributes:
        networks: Networks from which the node may connect; empty allows all.
        zstd: Whether the node's engine supports zstd layers; null if that is unknown.
        platform: Platform that the node runs, as `linux/arm64`; null if that is unknown.
        encryption_key: Public key of the node for encrypted layers, PEM (SubjectPublicKeyInfo): P-256, or RSA
            of 2048 to 8192 bits.
        runtime: Container runtime that has the private half of the key; null if that is unknown.
    """

    node_id: NodeId
    binding: ports.Binding
    networks: Annotated[tuple[IPv4Network | IPv6Network, ...], Field(max_length=32)] = ()
    zstd: bool | None = None
    platform: PlatformName | None = None
    encryption_key: PublicKey | None = None
    runtime: Runtime | None = None


class NewCertificate(Body):
    """A node's signing request.

    Attributes:
        csr: PEM (RFC 2986).
        platform: Platform that the node runs, as `linux/arm64`; recorded at enrolment only.
    """

    csr: Annotated[str, Field(min_length=1, max_length=16 << 10)]
    platform: PlatformName | None = None


class NewEncryptionKey(Body):
    """A node's encryption key.

    Attributes:
        public_key: PEM (SubjectPublicKeyInfo): P-256, or RSA of 2048 to 8192 bits.
        runtime: Container runtime that has the private half of the key; null keeps the recorded one.
    """

    public_key: PublicKey
    runtime: Runtime | None = None


class Node(Document):
    """A node.

    Attributes:
        encryption_key: Public key for encrypted layers, PEM; null if the node has none.
        key_thumbprint: RFC 7638 thumbprint of the encryption key.
        previous_key_thumbprint: Thumbprint of the key before the last change.
        runtime: Container runtime that decrypts layers; null if that is unknown.
    """

    node_id: str
    binding: Literal["certificate", "secret"]
    networks: list[str]
    zstd: bool | None
    platform: str | None
    encryption_key: str | None
    key_thumbprint: str | None
    previous_key_thumbprint: str | None
    runtime: str | None
    revoked_at: Instant | None

    @classmethod
    def of(cls, node: ports.Node) -> "Node":
        """Present a node; its secret is never shown again."""
        return cls(
            node_id=node.node_id,
            binding=node.binding.value,
            networks=[str(network) for network in node.networks],
            zstd=node.reads_zstd,
            platform=node.platform,
            encryption_key=node.encryption_key,
            key_thumbprint=node.key_thumbprint,
            previous_key_thumbprint=node.previous_key_thumbprint,
            runtime=node.runtime,
            revoked_at=node.revoked_at,
        )


class Nodes(Document):
    """A page of the nodes, by id.

    Attributes:
        next_after: Where the next page starts; null on the last one.
    """

    items: list[Node]
    next_after: str | None


class CreatedNode(Document):
    """A new node and its credential, which is shown only once."""

    node_id: str
    node_secret: str | None = Field(default=None, exclude_if=lambda value: value is None)
    enrolment_secret: str | None = Field(default=None, exclude_if=lambda value: value is None)
    expires_at: Instant | None = Field(default=None, exclude_if=lambda value: value is None)


class NodeSecret(Document):
    """Secret of a node, which is shown only once."""

    node_id: str
    node_secret: str


class Enrolment(Document):
    """Enrolment secret of a node, which is shown only once."""

    node_id: str
    enrolment_secret: str
    expires_at: Instant

    @classmethod
    def of(cls, node_id: str, offer: EnrolmentOffer) -> "Enrolment":
        """Present an offer with its secret, which is shown only this time."""
        return cls(node_id=node_id, enrolment_secret=offer.secret.reveal(), expires_at=offer.expires_at)


class Certificate(Document):
    """A node's certificate and the certificate of its CA, PEM."""

    certificate: str
    ca: str


class EncryptionKey(Document):
    """The encryption key that a node has now."""

    node_id: str
    key_thumbprint: str | None
    previous_key_thumbprint: str | None
    runtime: str | None


class NodesApi:
    """Operations on nodes."""

    tag: ClassVar[str] = "nodes"

    def __init__(self, service: nodes.Nodes, catalog: SqlNodeRegistry, enrolment: NodeEnrolment) -> None:
        self._nodes = service
        self._catalog = catalog
        self._enrolment = enrolment

    @Endpoint(
        "POST",
        "/nodes",
        "The node and its secret or enrolment secret, shown only once.",
        status=201,
        errors=(409,),
    )
    async def create_node(self, call: Call[NewNode]) -> CreatedNode:
        """Create a node."""
        new = call.body
        made = await self._nodes.create(
            new.node_id,
            new.binding,
            new.networks,
            reads_zstd=new.zstd,
            platform=new.platform,
            encryption_key=new.encryption_key,
            runtime=new.runtime,
            source=call.source,
        )
        if made.offer is not None:
            return CreatedNode(**dict(Enrolment.of(new.node_id, made.offer)))
        return CreatedNode(node_id=new.node_id, node_secret=made.secret.reveal() if made.secret else None)

    @Endpoint("GET", "/nodes", "Nodes, by id.", errors=(400,))
    async def list_nodes(self, call: Call[None], query: PageQuery) -> Nodes:  # noqa: ARG002 (no body)
        """List nodes."""
        items = [
            Node.of(node) for node in await self._catalog.list(after=query.after or "", limit=query.size)
        ]
        return Nodes(items=items, next_after=query.next_after([node.node_id for node in items]))

    @Endpoint("GET", "/nodes/{node_id}", "The node.", errors=(404,))
    async def get_node(self, call: Call[None]) -> Node:
        """Get a node."""
        return Node.of(await self._nodes.get(call.path("node_id")))

    @Endpoint("DELETE", "/nodes/{node_id}", "Done.", status=204, errors=(404,))
    async def revoke_node(self, call: Call[None]) -> None:
        """Revoke a node."""
        await self._nodes.revoke(call.path("node_id"), source=call.source)

    @Endpoint(
        "POST",
        "/nodes/{node_id}/enrolment",
        "The enrolment secret, shown only once.",
        status=201,
        errors=(404, 409),
    )
    async def offer_enrolment(self, call: Call[None]) -> Enrolment:
        """Create a new enrolment secret for a node."""
        node_id = call.path("node_id")
        return Enrolment.of(node_id, await self._nodes.offer(node_id, source=call.source))

    @Endpoint(
        "POST", "/nodes/{node_id}/secret", "The secret, shown only once.", status=201, errors=(404, 409)
    )
    async def rotate_secret(self, call: Call[None]) -> NodeSecret:
        """Replace a node's secret.

        Revokes the node's tokens. No token can be minted for the node for a minute.
        """
        node_id = call.path("node_id")
        secret = await self._nodes.rotate_secret(node_id, source=call.source)
        return NodeSecret(node_id=node_id, node_secret=secret.reveal())

    @Endpoint(
        "POST", "/nodes/{node_id}/certificate", "The certificate.", errors=(409,), access=Access.ENROLMENT
    )
    async def issue_certificate(self, call: Call[NewCertificate]) -> Certificate:
        """Enroll a node or renew its certificate."""
        node_id, csr, peer = call.path("node_id"), call.body.csr, peer_of(call.request)
        scheme, _, secret = call.request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme.lower() == "bearer":
            issued = await self._enrolment.enrol(node_id, Secret(secret.strip()), csr, source=peer.source)
            if call.body.platform is not None:
                await self._nodes.record_platform(node_id, call.body.platform)
        else:
            issued = await self._enrolment.renew(node_id, peer.certificate, csr, source=peer.source)
        return Certificate(certificate=issued.certificate, ca=issued.ca)

    @Endpoint(
        "PUT",
        "/nodes/{node_id}/encryption-key",
        "The thumbprints of the node's keys.",
        errors=(403, 404, 409),
        access=Access.NODE,
    )
    async def set_encryption_key(self, call: Call[NewEncryptionKey]) -> EncryptionKey:
        """Set a node's encryption key.

        The key before stays valid for tokens that were minted for it. The node itself may call this with its
        certificate, without `Authorization`.
        """
        node_id, peer = call.path("node_id"), peer_of(call.request)
        if hdrs.AUTHORIZATION not in call.request.headers:
            await self._enrolment.admit(
                node_id, peer.certificate, action="encryption-key", source=peer.source
            )
        node = await self._nodes.set_encryption_key(
            node_id, call.body.public_key, call.body.runtime, source=peer.source
        )
        return EncryptionKey.model_validate(node)
