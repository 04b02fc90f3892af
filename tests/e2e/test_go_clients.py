"""`crane`, `oras` and `regctl` pull every kind of image through a fresh token and get upstream's bytes."""

from pathlib import Path

import pytest

from tests.e2e.conftest import IMAGES, Mint
from tests.support import images
from tests.support.crisper import CrisperServer, Node, Operator, Organization
from tests.support.go_clients import NAMES, GoClient
from tests.support.images import Image, digest_of
from tests.support.upstream import PASSWORD, USERNAME, Upstream


@pytest.fixture(params=NAMES)
def go_client(request: pytest.FixtureRequest, own_folder: Path) -> GoClient:
    return GoClient(request.param, own_folder)


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_a_go_client_pulls_through_a_fresh_token(
    go_client: GoClient, image: Image, mint: Mint, node: Node
) -> None:
    token, platform = mint(image), (image.children or (image,))[0]
    go_client.pull(token.reference, token.username, token.password(node)).check()
    assert go_client.digest(token.reference) == platform.digest
    blobs = go_client.layout(token.reference) / "blobs" / "sha256"
    held = {digest_of(path.read_bytes()) for path in blobs.iterdir()}
    assert {f"sha256:{path.name}" for path in blobs.iterdir()} == held
    assert {digest_of(layer.gzipped) for layer in image.layers} < held


def test_a_go_client_resolves_the_tag_to_the_digest_of_the_upstream(
    go_client: GoClient, mint: Mint, node: Node
) -> None:
    for image in IMAGES:
        token = mint(image)
        found = go_client.resolve(token.reference, token.username, token.password(node))
        assert found == token.digest == image.digest


def test_a_go_client_is_refused_after_completion(
    go_client: GoClient, mint: Mint, node: Node, operator: Operator
) -> None:
    token = mint(IMAGES[0])
    go_client.pull(token.reference, token.username, token.password(node)).check()
    operator.complete(token)
    refused = go_client.pull(token.reference, token.username, token.password(node))
    assert not refused.ok
    assert "unauthorized" in refused.output.lower(), refused.output


@pytest.fixture
def attached(upstream: Upstream, own_folder: Path) -> str:
    """An image at the upstream to which `oras` has attached an SBOM."""
    image = images.random_layers(1, 64 << 10)
    upstream.push(image, "attached")
    reference = upstream.reference(image, "attached")
    sbom = own_folder / "sbom.json"
    sbom.write_text('{"spdxVersion": "SPDX-2.3"}')
    GoClient("oras", own_folder).attach(sbom, "application/spdx+json", reference, USERNAME, PASSWORD)
    return reference


def test_what_was_attached_at_the_upstream_is_discovered_through_a_token(
    attached: str, crisper: CrisperServer, organization: Organization, node: Node, own_folder: Path
) -> None:
    oras, regctl = (GoClient(name, own_folder) for name in ("oras", "regctl"))
    expected = oras.referrers(attached, USERNAME, PASSWORD)
    assert len(expected) == 1
    customer = crisper.customer(organization)
    group = customer.import_image(attached, username=USERNAME, password=PASSWORD)
    for client in (oras, regctl):
        token = crisper.operator.mint(organization, group, node)
        assert client.referrers(token.reference, token.username, token.password(node)) == expected
