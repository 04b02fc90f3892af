"""One upstream with one image, one server that has imported it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support import images
from tests.support.certificates import TestCa
from tests.support.certified import Certified
from tests.support.crisper import CrisperServer, Node, Organization, PullToken
from tests.support.http import Response, basic, request
from tests.support.upstream import Upstream


@pytest.fixture(scope="session")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    with Upstream(tmp_path_factory.mktemp("upstream")) as registry:
        registry.push(images.multi_platform())
        registry.push(images.random_layers())
        yield registry


@dataclass(frozen=True)
class Shop:
    """A server with an organization, a node, and a group whose image is ready."""

    server: CrisperServer
    organization: Organization
    node: Node
    group: str
    image: images.Image

    @property
    def repository(self) -> str:
        return f"{self.organization.name}/default/{self.group}"

    def mint(self, node: Node | None = None, ttl_s: int | None = None) -> PullToken:
        return self.server.operator.mint(self.organization, self.group, node or self.node, ttl_s=ttl_s)

    def exchange(self, token: PullToken, node: Node | None = None, scope: str | None = None) -> Response:
        node = node or self.node
        asked = f"repository:{self.repository}:pull" if scope is None else scope
        query = f"service=crisper&scope={asked}" if asked else "service=crisper"
        password = basic(node.node_id, token.password(node))
        headers = {"Authorization": password}
        return request("GET", f"{self.server.url}/token?{query}", headers=headers, tls=self.server.trust)

    def bearer(self, token: PullToken | None = None) -> str:
        return str(self.exchange(token or self.mint()).expect(200).json()["access_token"])

    def get(
        self, path: str, bearer: str | None, *, method: str = "GET", repository: str = "", **headers: str
    ) -> Response:
        url = f"{self.server.url}/v2/{repository or self.repository}/{path}"
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return request(method, url, headers=sent, tls=self.server.trust)

    def accepting(self, path: str, bearer: str, accepted: Sequence[str]) -> Response:
        """GET with one `Accept` line for each of `accepted`, as Docker sends them."""
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        try:
            connection.putrequest("GET", f"/v2/{self.repository}/{path}", skip_accept_encoding=True)
            connection.putheader("Authorization", f"Bearer {bearer}")
            for each in accepted:
                connection.putheader("Accept", each)
            connection.endheaders()
            answer = connection.getresponse()
            return Response(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def causes(self, token: PullToken) -> list[str]:
        found = self.server.operator.events(type="token.refused", token_id=token.token_id)
        return [event["cause"] for event in found]


def open_shop(server: CrisperServer, upstream: Upstream, image: images.Image) -> Shop:
    """Fill a running server."""
    operator = server.operator
    organization = operator.create_organization()
    group = server.customer(organization).import_image(
        upstream.reference(image), username=upstream.username, password=upstream.password
    )
    return Shop(server, organization, operator.create_node(), group, image)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("crisper")
    env = {"CRISPER_ORGANIZATION_CHANGES_PER_MINUTE": "0"}  # shared by many tests
    with CrisperServer(folder / "server", insecure_registries=[upstream.host], env=env) as server:
        yield open_shop(server, upstream, images.multi_platform())


@pytest.fixture(scope="session")
def edge_server(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[CrisperServer]:
    """A server whose layers are fetched by edges."""
    folder = tmp_path_factory.mktemp("with-edges")
    env = {"CRISPER_ORGANIZATION_CHANGES_PER_MINUTE": "0"}
    with CrisperServer(folder / "server", insecure_registries=[upstream.host], env=env) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "crisper"


@pytest.fixture(scope="session")
def certified(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Certified]:
    folder = tmp_path_factory.mktemp("certified")
    servers_ca = TestCa.create(folder / "servers", "Servers")
    operators_ca = TestCa.create(folder / "operators", "Operator's nodes")
    tls = servers_ca.issue("server", hosts=["127.0.0.1"], purposes=(ExtendedKeyUsageOID.SERVER_AUTH,))
    env = {"CRISPER_NODE_CA": str(operators_ca.path)}
    with CrisperServer(folder / "server", insecure_registries=[upstream.host], env=env, tls=tls) as server:
        yield Certified(server, folder, operators_ca, upstream, images.multi_platform())
