"""Every client, unmodified, pulls every kind of image through a fresh token and gets upstream's bytes."""

import pytest

from tests.e2e.conftest import IMAGES, GroupOf, Mint
from tests.support import images
from tests.support.clients import Client, Ctr, Docker, Skopeo
from tests.support.crisper import CrisperServer, Customer, Node, Operator
from tests.support.images import GREETING, Image, digest_of
from tests.support.upstream import Upstream

any_image = pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
runnable_image = pytest.mark.parametrize(
    "image", [image for image in IMAGES if image.name != "acme/random"], ids=lambda image: image.name
)


@any_image
def test_a_client_pulls_with_a_fresh_token_and_records_the_digest(
    client: Client, image: Image, mint: Mint, node: Node
) -> None:
    token = mint(image)
    client.pull(token.reference, token.username, token.password(node)).check()
    assert token.username == node.node_id
    assert token.digest in image.digests
    assert client.digest(token.reference) in image.digests


@runnable_image
def test_docker_runs_what_it_pulled(docker: Docker, image: Image, mint: Mint, node: Node) -> None:
    token = mint(image)
    docker.pull(token.reference, token.username, token.password(node)).check()
    assert docker.run(token.reference).check().output.strip() == GREETING


@runnable_image
def test_containerd_runs_what_it_pulled(ctr: Ctr, image: Image, mint: Mint, node: Node) -> None:
    token = mint(image)
    ctr.pull(token.reference, token.username, token.password(node)).check()
    assert ctr.run(token.reference).check().output.strip() == GREETING


def test_docker_and_containerd_run_an_image_of_2015(
    upstream: Upstream, docker: Docker, ctr: Ctr, mint: Mint, node: Node
) -> None:
    upstream.push(images.of_2015())
    for client in (docker, ctr):
        token = mint(images.of_2015())
        client.pull(token.reference, token.username, token.password(node)).check()
        assert client.run(token.reference).check().output.strip() == GREETING


def test_docker_inspects_the_manifest_of_a_token(docker: Docker, mint: Mint, node: Node) -> None:
    token = mint(images.runnable())
    shown = docker.inspect_manifest(token.reference, token.username, token.password(node)).check()
    assert digest_of(images.runnable().layers[0].gzipped) in shown.output


def test_a_login_before_the_pull_does_not_use_the_token_up(
    docker: Docker, crisper: CrisperServer, operator: Operator, mint: Mint, node: Node
) -> None:
    token = mint(images.runnable())
    docker.login(crisper.host, token.username, token.password(node)).check()
    assert operator.token_state(token) == "minted"
    docker.pull(token.reference, token.username, token.password(node)).check()


@any_image
def test_a_copied_image_is_byte_for_byte_what_the_upstream_held(
    skopeo: Skopeo, image: Image, mint: Mint, node: Node
) -> None:
    token = mint(image)
    skopeo.pull(token.reference, token.username, token.password(node)).check()
    copied = {
        digest_of(path.read_bytes())
        for path in skopeo.copied(token.reference).iterdir()
        if path.name not in {"manifest.json", "version"}
    }
    assert {digest_of(layer.gzipped) for layer in image.layers} < copied
    assert copied <= set(image.blobs)


@any_image
def test_a_group_tells_the_digest_and_the_size_of_its_image(
    image: Image, group_of: GroupOf, customer: Customer
) -> None:
    group = customer.group(group_of(image))
    assert group["current_state"]["status"] == "stopped"
    assert group["container"]["hash"] in image.digests
    assert group["container"]["size"] >= sum(len(layer.gzipped) for layer in image.layers)
