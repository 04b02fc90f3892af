"""A pull that has ended is seen as ended, without any report, by what real clients request."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.support import images
from tests.support.clients import Ctr, Docker, Podman, Skopeo
from tests.support.crisper import CrisperServer, Customer, Node, Operator, Organization
from tests.support.http import basic, request
from tests.support.images import Image
from tests.support.processes import wait_until
from tests.support.upstream import Upstream

SEEN_S = 60
QUIET_S = 30

Updating = Docker | Ctr | Podman


class Fleet:
    """A started group, and nodes that pull its versions."""

    def __init__(
        self, operator: Operator, customer: Customer, organization: Organization, upstream: Upstream
    ) -> None:
        self.operator, self.customer = operator, customer
        self.organization, self.upstream = organization, upstream
        self.group = ""

    def publish(self, image: Image) -> None:
        """Import an image as the group's next version, and have the group run."""
        self.upstream.push(image)
        access = {"username": self.upstream.username, "password": self.upstream.password}
        reference = self.upstream.reference(image)
        if not self.group:
            self.group = self.customer.import_image(reference, **access)
            self.customer.call("POST", f"{self.group}/start").expect(202)
        else:
            container = {"image": reference, "registry_authentication": {"basic": access}}
            self.customer.patch(self.group, {"container": container})
            self.customer.wait_settled(self.group)
        assert self.customer.status(self.group) == "deploying"

    def pull(self, client: Updating, node: Node) -> None:
        token = self.operator.mint(self.organization, self.group, node)
        client.update(token.reference, token.username, token.password(node)).check()

    def instance(self, node: Node) -> dict[str, Any]:
        return self.operator.instances(self.organization, self.group).get(node.node_id, {"state": "gone"})

    def await_state(
        self, node: Node, state: str, known_by: str | None, *, version: int = 1, timeout_s: float = SEEN_S
    ) -> None:
        expected = {"state": state, "known_by": known_by, "version": version}
        wait_until(
            lambda: expected.items() <= self.instance(node).items(),
            timeout_s=timeout_s,
            what=f"{expected}: {self.instance(node)}",
        )


@pytest.fixture
def fleet(operator: Operator, customer: Customer, organization: Organization, upstream: Upstream) -> Fleet:
    return Fleet(operator, customer, organization, upstream)


@pytest.fixture
def clients_of(clients: Mapping[str, Any]) -> Mapping[str, Updating]:
    """The clients, each from nothing."""
    found = {name: clients[name] for name in ("docker", "containerd", "podman")}
    for client in found.values():
        client.forget()
    return found


def test_a_group_runs_after_each_update_of_its_nodes_without_any_report(
    fleet: Fleet, operator: Operator, clients_of: Mapping[str, Updating]
) -> None:
    nodes = {name: operator.create_node() for name in clients_of}
    for version, image in enumerate(images.updates(3), start=1):
        fleet.publish(image)
        for name, client in clients_of.items():
            fleet.pull(client, nodes[name])
            ended = time.monotonic()
            fleet.await_state(nodes[name], "creating", "delivered", version=version)
            assert fleet.customer.status(fleet.group) == "running"
            assert time.monotonic() - ended < SEEN_S
    # The image is present already: docker and containerd send HEAD only, podman fetches its documents.
    for name, client in clients_of.items():
        before = fleet.instance(nodes[name])
        fleet.pull(client, nodes[name])
        assert fleet.instance(nodes[name]) == before


@pytest.mark.full
@pytest.mark.parametrize("name", ["docker", "containerd", "podman"])
def test_layers_from_elsewhere_are_known_by_quiet(
    name: str, fleet: Fleet, operator: Operator, upstream: Upstream, clients_of: Mapping[str, Updating]
) -> None:
    client, node = clients_of[name], operator.create_node()
    old, new = images.updates(2, f"acme/elsewhere-{name}")
    upstream.push(old)
    client.update(upstream.reference(old), str(upstream.username), str(upstream.password)).check()
    fleet.publish(new)
    fleet.pull(client, node)
    fleet.await_state(node, "creating", "quiet")
    assert fleet.customer.status(fleet.group) == "running"
    # The next version needs no quiet for what was delivered, and the state of before stays while it pulls.
    fleet.pull(client, node)
    assert fleet.instance(node)["state"] == "creating"


@pytest.mark.full
def test_a_later_request_takes_quiet_back_and_the_pull_goes_on(
    fleet: Fleet, operator: Operator, crisper: CrisperServer
) -> None:
    (image,) = images.updates(1, "acme/interrupted")
    fleet.publish(image)
    node = operator.create_node()
    token = operator.mint(fleet.organization, fleet.group, node)
    get = session(crisper, fleet, node, token.password(node))
    config, base, app = image.blobs
    for digest in (config, base):
        get(f"blobs/{digest}")
    fleet.await_state(node, "creating", "quiet", timeout_s=QUIET_S + 15)
    assert fleet.customer.status(fleet.group) == "running"
    time.sleep(5)  # the line is down
    assert operator.token_state(token) == "active"
    get(f"manifests/{image.digest}")
    fleet.await_state(node, "downloading", None, timeout_s=10)
    assert fleet.customer.status(fleet.group) == "deploying"
    get(f"blobs/{app}")
    fleet.await_state(node, "creating", "delivered", timeout_s=10)
    assert fleet.customer.status(fleet.group) == "running"
    told = [
        (each["type"], each["detail"].get("known_by"))
        for each in operator.events(organization_name=fleet.organization.name, limit="1000")
        if each["detail"].get("group") == fleet.group
        and each["type"].startswith(("instance.", "group.d", "group.r"))
    ]
    assert told == [
        ("instance.downloading", None),
        ("instance.creating", "quiet"),
        ("group.running", None),
        ("instance.downloading", None),
        ("group.deploying", None),
        ("instance.creating", "delivered"),
        ("group.running", None),
    ]


@pytest.mark.full
def test_no_token_hides_another_and_a_restart_forgets_nothing(
    fleet: Fleet, operator: Operator, crisper: CrisperServer
) -> None:
    first, second = images.updates(2, "acme/several")
    fleet.publish(first)
    node = operator.create_node()
    tokens = [operator.mint(fleet.organization, fleet.group, node) for _ in range(3)]
    get = session(crisper, fleet, node, tokens[0].password(node))
    for digest in list(first.blobs)[:2]:
        get(f"blobs/{digest}")
    operator.mint(fleet.organization, fleet.group, node)
    assert (fleet.instance(node)["state"], fleet.instance(node)["token_id"]) == (
        "downloading",
        tokens[0].token_id,
    )
    other = session(crisper, fleet, node, tokens[1].password(node))
    other(f"blobs/{list(first.blobs)[2]}")  # the rest was delivered in the other session
    fleet.await_state(node, "creating", "delivered")

    crisper.stop()
    crisper.start()
    fleet.publish(second)
    token = operator.mint(fleet.organization, fleet.group, node)
    get = session(crisper, fleet, node, token.password(node))
    config, _, app = second.blobs
    get(f"blobs/{config}")
    get(f"blobs/{app}")
    fleet.await_state(node, "creating", "delivered", version=2)


def test_the_tags_are_those_of_the_session(fleet: Fleet, operator: Operator, skopeo: Skopeo) -> None:
    node, tokens = operator.create_node(), []
    for image in images.updates(2, "acme/tags"):
        fleet.publish(image)
        tokens.append(operator.mint(fleet.organization, fleet.group, node))
    seen = [skopeo.tags(token.reference, token.username, token.password(node)) for token in tokens]
    assert seen == [["latest", "v1"], ["latest", "v2"]]


def session(crisper: CrisperServer, fleet: Fleet, node: Node, password: str) -> Callable[[str], None]:
    """Redeem a token; return what gets a document or a blob of its session."""
    repository = f"{fleet.organization.name}/default/{fleet.group}"
    url = f"{crisper.url}/token?scope=repository:{repository}:pull"
    answer = request("GET", url, headers={"Authorization": basic(node.node_id, password)}).expect(200)
    bearer = {"Authorization": f"Bearer {answer.json()['token']}", "Accept": images.OCI_MANIFEST}

    def get(path: str) -> None:
        request("GET", f"{crisper.url}/v2/{repository}/{path}", headers=bearer).expect(200)

    return get
