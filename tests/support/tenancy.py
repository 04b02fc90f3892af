"""Two tenants of one server, each with one object of every kind and every kind of credential."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any, Final, Self

from tests.support import images
from tests.support.crisper import PROJECT, CrisperServer, Node, Organization, PullToken, unique
from tests.support.group_documents import MINIMAL
from tests.support.http import Response, basic, request
from tests.support.images import Image
from tests.support.upstream import Upstream

_EVENTS: Final = "text/event-stream"
_STREAM_BYTES: Final = 4096
_RARE: Final = "group.deleted"  # deliveries would change the state of the webhook
_sources = (f"127.{n >> 16 & 127 | 64}.{n >> 8 & 255}.{n & 255}" for n in itertools.count(1))


@dataclass(frozen=True)
class Tenant:
    """An organization with one object of every kind.

    Attributes:
        image: Of this tenant only.
        parameters: Names of its objects, by the path parameters that name them.
        canaries: Texts that only this tenant, its nodes and the operator may read.
        token: Of `node`, with an open session.
        unused: A token that is not redeemed, and its node.
        credentials: By the kind of caller who has them.
    """

    organization: Organization
    image: Image
    parameters: Mapping[str, str]
    canaries: frozenset[str]
    node: Node
    token: PullToken
    unused: tuple[Node, PullToken]
    credentials: Mapping[str, str] = field(repr=False)

    @property
    def group(self) -> str:
        return self.parameters["container_group_name"]

    @property
    def repository(self) -> str:
        return f"{self.organization.name}/{PROJECT}/{self.group}"

    @classmethod
    def create(cls, server: CrisperServer, upstream: Upstream) -> Self:
        operator = server.operator
        organization = operator.create_organization(unique("canary-org"))
        image = images.build(
            unique("acme/canary"), [images.layer([("canary", unique("canary-file").encode(), 0o644)])]
        )
        upstream.push(image)
        value = unique("canary-value")
        group = _import(server, organization, upstream.reference(image), upstream, value)
        nodes = [operator.create_node(unique("canary-node")) for _ in range(2)]
        token, unused = (operator.mint(organization, group, node) for node in nodes)
        url = (
            f"{server.url}/token?service=crisper&scope=repository:{organization.name}/{PROJECT}/{group}:pull"
        )
        headers = {"Authorization": basic(nodes[0].node_id, token.password(nodes[0]))}
        bearer = request("GET", url, headers=headers).expect(200).json()["token"]
        base = f"/organizations/{organization.name}"
        hook = {"url": f"https://{unique('canary-hook')}.example.com/in", "types": [_RARE]}
        webhook = operator.call("POST", f"{base}/webhooks", hook).expect(201).json()
        revoked, kept = (
            operator.call("POST", f"{base}/api-keys", {"name": unique("canary-key")}).expect(201).json()
            for _ in range(2)
        )
        operator.call("DELETE", f"{base}/api-keys/{revoked['key_id']}").expect(204)
        certified, enrolment = operator.create_certified_node(unique("canary-node"))
        instance = operator.instances(organization, group)[nodes[0].node_id]["instance_id"]
        parameters = {
            "organization_name": organization.name,
            "project_name": PROJECT,
            "container_group_name": group,
            "container_group_instance_id": instance,
            "instance_id": instance,
            "webhook_id": webhook["webhook_id"],
            "key_id": kept["key_id"],
            "node_id": certified,
            "token_id": token.token_id,
        }
        credentials = {
            "API key": organization.api_key,
            "revoked API key": revoked["api_key"],
            "session's bearer": bearer,
            "pull token": unused.token,
            "node's secret": nodes[0].secret,
            "enrolment secret": enrolment,
        }
        names = {*parameters.values(), *(node.node_id for node in nodes), unused.token_id, str(hook["url"])}
        canaries = names | {value, image.name, image.digest, *image.blobs, *credentials.values()}
        return cls(
            organization,
            image,
            parameters,
            frozenset(canaries - {PROJECT}),
            nodes[0],
            token,
            (nodes[1], unused),
            credentials,
        )


def _import(
    server: CrisperServer, organization: Organization, reference: str, upstream: Upstream, value: str
) -> str:
    """Import an image for a group that has `value` in its environment; return the group's name."""
    customer, name = server.customer(organization), unique("canary-group")
    container = {
        **MINIMAL["container"],
        "image": reference,
        "registry_authentication": {"basic": dict(upstream.login)},
        "environment_variables": {"CANARY": value},
    }
    customer.call("POST", "", {**MINIMAL, "name": name, "container": container}).expect(201)
    assert customer.wait_settled(name)["current_state"]["status"] == "stopped"
    return name


def send(
    server: CrisperServer,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: Mapping[str, Any] | None = None,
) -> Response:
    """Send one request from an address that no request has had; of endless answers, read the start only.

    Refusals are limited by address, and the limit's 429 would hide them.
    """
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30, source_address=(next(_sources), 0))
    sent = dict(headers)
    if body is not None:
        sent["Content-Type"] = "application/json"
    try:
        connection.request(method, path, body=None if body is None else json.dumps(body), headers=sent)
        answer = connection.getresponse()
        endless = answer.headers.get_content_type() == _EVENTS
        return Response(
            answer.status, answer.headers, answer.read1(_STREAM_BYTES) if endless else answer.read()
        )
    finally:
        connection.close()
