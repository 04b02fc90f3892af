"""A token is useless to others and after its pull; each client reports the refusal."""

import time

import pytest

from tests.e2e.conftest import CLIENTS, Mint
from tests.support import images
from tests.support.clients import Client, Skopeo
from tests.support.crisper import CrisperServer, Node, Operator, Organization, PullToken
from tests.support.http import request

TTL_S = 1
LEEWAY_S = 30  # docs/tokens.md: clocks may differ by so much


@pytest.fixture(scope="module", autouse=True)
def expiring(mint: Mint) -> tuple[float, dict[str, PullToken]]:
    """A short-lived token for each client, minted when this module starts, and when they are over."""
    tokens = {client: mint(images.runnable(), ttl_s=TTL_S) for client in CLIENTS}
    return time.monotonic() + TTL_S + LEEWAY_S + 1, tokens


@pytest.fixture
def token(mint: Mint) -> PullToken:
    return mint(images.runnable())


def assert_refused(client: Client, reference: str, username: str, password: str) -> None:
    result = client.pull(reference, username, password)
    assert not result.ok, f"{client.name} pulled what it must not have"
    assert client.refusal.search(result.output), f"not a refusal in {client.name}'s words:\n{result.output}"


def test_another_node_is_refused_and_uses_nothing_up(
    client: Client, token: PullToken, operator: Operator, node: Node, other_node: Node
) -> None:
    assert_refused(client, token.reference, other_node.node_id, token.password(other_node))
    assert_refused(client, token.reference, node.node_id, token.password(other_node))
    assert_refused(client, token.reference, node.node_id, token.token)
    assert operator.token_state(token) == "minted"
    client.pull(token.reference, token.username, token.password(node)).check()


def test_another_node_is_refused_while_the_session_is_open(
    client: Client, token: PullToken, node: Node, other_node: Node
) -> None:
    client.pull(token.reference, token.username, token.password(node)).check()
    assert_refused(client, token.reference, other_node.node_id, token.password(other_node))


def test_a_second_use_after_completion_is_refused(
    client: Client, token: PullToken, operator: Operator, node: Node
) -> None:
    client.pull(token.reference, token.username, token.password(node)).check()
    operator.complete(token)
    assert_refused(client, token.reference, token.username, token.password(node))


def test_a_revoked_token_is_refused(client: Client, token: PullToken, operator: Operator, node: Node) -> None:
    operator.revoke(token)
    assert_refused(client, token.reference, token.username, token.password(node))


def test_a_token_opens_no_other_image(client: Client, token: PullToken, mint: Mint, node: Node) -> None:
    elsewhere = mint(images.docker_schema2())
    assert_refused(client, elsewhere.reference, token.username, token.password(node))
    client.pull(token.reference, token.username, token.password(node)).check()


def test_every_refusal_is_recorded_with_its_true_cause(
    skopeo: Skopeo, token: PullToken, operator: Operator, node: Node, other_node: Node
) -> None:
    assert_refused(skopeo, token.reference, other_node.node_id, token.password(other_node))
    assert_refused(skopeo, token.reference, node.node_id, token.password(other_node))
    skopeo.pull(token.reference, token.username, token.password(node)).check()
    operator.complete(token)
    assert_refused(skopeo, token.reference, token.username, token.password(node))

    operator.redemptions(token)
    events = operator.events(token_id=token.token_id)
    refused = {
        (event["cause"], event["organization_name"]) for event in events if event["type"] == "token.refused"
    }
    owner = token.reference.split("/")[1]
    assert refused == {(cause, owner) for cause in ("wrong_node", "wrong_secret", "replayed")}
    assert {"token.minted", "token.redeemed", "token.completed"} <= {event["type"] for event in events}


def test_listing_and_writing_are_refused(crisper: CrisperServer, organization: Organization) -> None:
    assert request("GET", f"{crisper.url}/v2/_catalog").status in {401, 404}
    upload = f"{crisper.url}/v2/{organization.name}/default/any/blobs/uploads/"
    refused = request("POST", upload).expect(405).json()
    assert refused["errors"][0]["code"] == "UNSUPPORTED"


# Last in this module, when most of the leeway has gone by.
def test_a_use_after_expiry_is_refused(
    client: Client, expiring: tuple[float, dict[str, PullToken]], operator: Operator, node: Node
) -> None:
    over_at, tokens = expiring
    token = tokens[client.name]
    time.sleep(max(0.0, over_at - time.monotonic()))
    assert_refused(client, token.reference, token.username, token.password(node))
    assert operator.token_state(token) == "expired"
