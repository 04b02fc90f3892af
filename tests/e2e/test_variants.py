"""Clients pull an image's zstd variant, unmodified, and run it."""

import pytest

from tests.support import images
from tests.support.clients import Client, Ctr
from tests.support.crisper import Customer, Operator, Organization, PullToken
from tests.support.images import GREETING
from tests.support.upstream import Upstream


@pytest.fixture(scope="module")
def group(customer: Customer, upstream: Upstream) -> str:
    upstream.push(images.compressible())
    reference = upstream.reference(images.compressible())
    return customer.import_image(reference, username=upstream.username, password=upstream.password)


@pytest.mark.parametrize("name", ["containerd", "podman", "skopeo"])
def test_a_client_pulls_the_zstd_variant_that_its_node_is_given(
    name: str, clients: dict[str, Client], operator: Operator, organization: Organization, group: str
) -> None:
    client, node = clients[name], operator.create_node(zstd=True)
    token: PullToken = operator.mint(organization, group, node, variant="auto")
    assert token.variant == "zstd"
    client.pull(token.reference, token.username, token.password(node)).check()
    assert client.digest(token.reference) == token.digest
    shown = operator.call("GET", f"/pull-tokens/{token.token_id}").expect(200).json()
    assert shown["session"]["bytes_delivered"] >= shown["image"]["size"] > 0


def test_containerd_runs_an_image_of_zstd_layers(
    ctr: Ctr, operator: Operator, organization: Organization, group: str
) -> None:
    node = operator.create_node()
    token = operator.mint(organization, group, node, variant="zstd")
    ctr.pull(token.reference, token.username, token.password(node)).check()
    assert ctr.run(token.reference).check().output.strip() == GREETING
