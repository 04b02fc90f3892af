"""Clients pull an image's zstd variant, unmodified, and run it."""

import pytest

from tests.support import images
from tests.support.clients import Client, Ctr, Docker
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


@pytest.fixture(scope="module")
def zstd_group(customer: Customer, upstream: Upstream) -> str:
    """A group whose image its customer pushed with a zstd layer, so there is no gzip variant."""
    upstream.push(images.zstd_only())
    return customer.import_image(upstream.reference(images.zstd_only()), **upstream.login)


def test_containerd_runs_an_image_that_was_pushed_in_zstd(
    ctr: Ctr, operator: Operator, organization: Organization, zstd_group: str
) -> None:
    node = operator.create_node(zstd=True)
    token = operator.mint(organization, zstd_group, node, variant="auto")
    ctr.pull(token.reference, token.username, token.password(node)).check()
    assert ctr.run(token.reference).check().output.strip() == GREETING


def test_docker_20_fails_on_zstd_and_a_node_without_support_gets_no_token(
    docker: Docker, operator: Operator, organization: Organization, zstd_group: str
) -> None:
    unknown = operator.create_node()
    token = operator.mint(organization, zstd_group, unknown)
    failed = docker.pull(token.reference, token.username, token.password(unknown))
    assert not failed.ok
    assert "failed to register layer" in failed.output

    old = operator.create_node(zstd=False)
    body = {
        "organization_name": organization.name,
        "project_name": "default",
        "container_group_name": zstd_group,
        "node_id": old.node_id,
    }
    refused = operator.call("POST", "/pull-tokens", body).expect(409).json()
    assert "zstd layers" in refused["detail"]
    assert "push the image with gzip layers" in refused["detail"]
