"""The operator API's nodes, and the one address there that nodes themselves call."""

from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from auth.audit import EventType
from auth.authority import Authority
from auth.nodes.enrolment import EnrolmentOffer, NodeEnrolment
from auth.ports import AuditEvent, Binding, Node
from auth.secret import Secret, hash_secret, new_node_secret
from registry.api.http.peers import peer_of
from registry.api.operator import documents
from registry.api.operator.requests import NewCertificate, NewNode
from registry.audit.types import RegistryEventType
from registry.errors import ConflictError, NotFoundError
from registry.model.nodes import NodeRegistry

CERTIFICATE: Final = "node-certificate"
"""Name of the route that asks for the node's proof instead of the operator's key."""


class NodesApi:
    """Handlers of `/api/v1/nodes`."""

    def __init__(self, nodes: NodeRegistry, enrolment: NodeEnrolment, authority: Authority) -> None:
        self._nodes = nodes
        self._enrolment = enrolment
        self._authority = authority

    def routes(self) -> list[web.RouteDef]:
        """Return what to add to the operator application."""
        return [
            web.post("/nodes", self.create),
            web.get("/nodes", self.list, allow_head=False),
            web.get("/nodes/{node_id}", self.get, allow_head=False),
            web.delete("/nodes/{node_id}", self.delete),
            web.post("/nodes/{node_id}/enrolment", self.offer),
            web.post("/nodes/{node_id}/certificate", self.certificate, name=CERTIFICATE),
        ]

    async def create(self, request: web.Request) -> web.Response:
        """Create a node; the secret in the answer is shown this once."""
        body = await NewNode.read(request)
        if body.binding is Binding.SECRET:
            secret = new_node_secret()
            await self._add(
                request,
                Node(body.node_id, body.binding, hash_secret(secret), body.networks, reads_zstd=body.zstd),
            )
            return _created({"node_id": body.node_id, "node_secret": secret.reveal()})
        await self._add(
            request, Node(body.node_id, body.binding, networks=body.networks, reads_zstd=body.zstd)
        )
        return _created(documents.offer(body.node_id, await self._enrolment.offer(body.node_id)))

    async def offer(self, request: web.Request) -> web.Response:
        """Offer a node another enrolment: its secret lapsed, or its certificate did while it was away."""
        node = await self._found(request)
        if node.binding is not Binding.CERTIFICATE:
            raise ConflictError("the node is bound by a secret; create another to bind by certificate")
        if node.revoked_at is not None:
            raise ConflictError("the node was struck off; create another")
        event = _event(RegistryEventType.NODE_OFFERED, node.node_id, request)
        offered: EnrolmentOffer = await self._enrolment.offer(node.node_id, event)
        return _created(documents.offer(node.node_id, offered))

    async def certificate(self, request: web.Request) -> web.Response:
        """Answer a node's signing request: enrolment with its secret, or renewal with its certificate."""
        body = await NewCertificate.read(request)
        node_id, peer = request.match_info["node_id"], peer_of(request)
        scheme, _, secret = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme.lower() == "bearer":
            issued = await self._enrolment.enrol(
                node_id, Secret(secret.strip()), body.csr, source=peer.source
            )
        else:
            issued = await self._enrolment.renew(node_id, peer.certificate, body.csr, source=peer.source)
        return _json({"certificate": issued.certificate, "ca": issued.ca})

    async def list(self, _request: web.Request) -> web.Response:
        """List all nodes by id."""
        return _json({"items": [documents.node(node) for node in await self._nodes.list()]})

    async def get(self, request: web.Request) -> web.Response:
        """Show a node."""
        return _json(documents.node(await self._found(request)))

    async def delete(self, request: web.Request) -> web.Response:
        """Strike a node off and revoke its tokens. Its id is never given out again."""
        node_id = request.match_info["node_id"]
        # The node first: a token minted in between is refused at the realm all the same.
        if not await self._nodes.revoke(node_id, _event(RegistryEventType.NODE_REVOKED, node_id, request)):
            raise NotFoundError("there is no such node")
        await self._authority.revoke_node(node_id)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _found(self, request: web.Request) -> Node:
        found = await self._nodes.get(request.match_info["node_id"])
        if found is None:
            raise NotFoundError("there is no such node")
        return found

    async def _add(self, request: web.Request, node: Node) -> None:
        await self._nodes.add(node, _event(RegistryEventType.NODE_CREATED, node.node_id, request))


def _event(type_: EventType, node_id: str, request: web.Request) -> AuditEvent:
    return AuditEvent(type_, node_id=node_id, source=peer_of(request).source)


def _created(document: object) -> web.Response:
    return _json(document, HTTPStatus.CREATED)


def _json(document: object, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.json_response(document, status=status, headers={hdrs.CACHE_CONTROL: "no-store"})
