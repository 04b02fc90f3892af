"""One server with two organizations, a node, a group whose image is ready and one that failed."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.support import images
from tests.support.crisper import CrisperServer, Customer, Node, Organization
from tests.support.portal import PortalVisitor
from tests.support.upstream import Upstream

READY, FAILED = "ready", "failed"


@dataclass(frozen=True)
class Stage:
    """What the tests of the portal share.

    Attributes:
        silent_host: A registry that takes connections and never answers.
    """

    server: CrisperServer
    upstream: Upstream
    organization: Organization
    other: Organization
    node: Node
    silent_host: str
    sessions: dict[str, PortalVisitor] = field(default_factory=dict, repr=False)
    keys: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def operator(self) -> PortalVisitor:
        return self._visitor(self.server.operator_key)

    def visitor(self, organization: Organization) -> PortalVisitor:
        return self._visitor(organization.api_key)

    def _visitor(self, key: str) -> PortalVisitor:
        """Sign in once with each key: attempts are counted."""
        if key not in self.sessions:
            self.sessions[key] = PortalVisitor.signed_in(self.server.url, key)
        return self.sessions[key].copy()

    @property
    def customer(self) -> Customer:
        return self.server.customer(self.organization)

    def path(self, group: str, rest: str = "") -> str:
        return f"/groups/{self.organization.name}/default/{group}{rest}"


@pytest.fixture(scope="package")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("portal")
    with Upstream(folder / "upstream") as upstream, socket.create_server(("127.0.0.1", 0)) as silent:
        upstream.push(images.runnable())
        silent_host = f"127.0.0.1:{silent.getsockname()[1]}"
        with CrisperServer(folder / "crisper", insecure_registries=[upstream.host, silent_host]) as server:
            operator = server.operator
            made = Stage(
                server,
                upstream,
                operator.create_organization(),
                operator.create_organization(),
                operator.create_node(),
                silent_host,
            )
            access = upstream.login
            made.customer.create_group(upstream.reference(images.runnable()), name=READY, **access)
            made.customer.create_group(upstream.reference(images.runnable(), "none"), name=FAILED, **access)
            made.customer.wait_settled(READY)
            made.customer.wait_settled(FAILED)
            yield made
