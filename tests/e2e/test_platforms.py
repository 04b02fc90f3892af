"""Clients pull each imported platform of an image, and nodes get their own platform."""

import re
from dataclasses import replace

import pytest

from tests.e2e.conftest import CLIENTS
from tests.support import images
from tests.support.crisper import PROJECT, Node
from tests.support.fleet import IMAGE, IMPORTED, MADE, MISSING, Fleet, size_of
from tests.support.go_clients import GoClient
from tests.support.upstream import Upstream

NO_PLATFORM = r"no matching manifest|no match for platform|no image found|no child with platform"

each_client = pytest.mark.parametrize("name", [*CLIENTS, "crane"])
each_platform = pytest.mark.parametrize("platform", IMPORTED)


def test_the_group_shows_the_largest_size_and_what_is_missing(fleet: Fleet) -> None:
    found = fleet.customer.group(fleet.group)
    assert found["container"]["hash"] == IMAGE.digest
    assert found["container"]["size"] == max(size_of(MADE[platform]) for platform in IMPORTED)
    expected = f"imported for {', '.join(IMPORTED)}; the image has no {MISSING}"
    assert found["current_state"]["description"] == expected


@each_platform
@each_client
def test_a_client_chooses_a_platform_for_a_node_of_unknown_platform(
    name: str, platform: str, fleet: Fleet, node: Node
) -> None:
    token = fleet.mint(node)
    fleet.pull(name, token, node, platform).check()
    fleet.assert_whole(token, platform)


@each_platform
@each_client
def test_a_node_gets_its_platform_without_asking(name: str, platform: str, fleet: Fleet) -> None:
    node = fleet.operator.create_node(platform=platform)
    token = fleet.mint(node)
    described = fleet.shown(token)["image"]
    assert (described["digest"], described["size"]) == (MADE[platform].digest, size_of(MADE[platform]))
    assert described["platforms"] == [platform]
    # containerd refuses other platforms than its machine's, so that the test names the node's.
    fleet.pull(name, token, node, platform if name == "containerd" else None).check()
    fleet.assert_whole(token, platform)


@each_platform
@pytest.mark.parametrize("known", ["known", "unknown"])
def test_every_platform_has_a_zstd_variant(platform: str, known: str, fleet: Fleet) -> None:
    node = fleet.operator.create_node(zstd=True, platform=platform if known == "known" else None)
    token = fleet.mint(node, "auto")
    assert token.variant == "zstd"
    fleet.pull("skopeo", token, node, platform).check()
    session = fleet.shown(token)["session"]
    assert session["blobs"]["complete"] == session["blobs"]["total"] == len(MADE[platform].blobs)
    assert session["bytes_delivered"] < size_of(MADE[platform])


def test_a_node_of_an_unimported_platform_gets_no_token(fleet: Fleet) -> None:
    body = {
        "organization_name": fleet.organization.name,
        "project_name": PROJECT,
        "container_group_name": fleet.group,
        "node_id": fleet.operator.create_node(platform="linux/s390x").node_id,
    }
    refused = fleet.operator.call("POST", "/pull-tokens", body).expect(409).json()["detail"]
    assert "imported for linux/amd64, linux/arm64, linux/arm/v7" in refused
    assert "runs linux/s390x" in refused
    assert "crisper group platforms" in refused


@each_client
def test_a_client_finds_no_unimported_platform(name: str, fleet: Fleet, node: Node) -> None:
    result = fleet.pull(name, fleet.mint(node), node, "linux/s390x")
    assert not result.ok
    assert re.search(NO_PLATFORM, result.output, re.IGNORECASE), result.output


def test_an_unimported_platform_is_refused_by_digest_with_what_was_imported(fleet: Fleet, node: Node) -> None:
    token = fleet.mint(node)
    by_digest = replace(token, reference=f"{token.reference.rpartition(':')[0]}@{MADE['linux/s390x'].digest}")
    result = fleet.pull("crane", by_digest, node)
    assert "only for linux/amd64, linux/arm64, linux/arm/v7" in result.output, result.output
    assert "import the image again" in result.output
    assert not fleet.operator.events(type="token.refused", token_id=token.token_id)


@pytest.mark.parametrize("platform", [None, "linux/arm64"])
def test_the_original_index_stays_available_by_its_digest(platform: str | None, fleet: Fleet) -> None:
    node = fleet.operator.create_node(platform=platform)
    token = fleet.mint(node)
    by_digest = replace(token, reference=f"{token.reference.rpartition(':')[0]}@{IMAGE.digest}")
    client = GoClient("crane", fleet.folder)
    assert client.resolve(by_digest.reference, token.username, token.password(node)) == IMAGE.digest
    fleet.pull("crane", by_digest, node, "linux/arm64").check()


def test_a_group_has_its_own_platforms(fleet: Fleet, upstream: Upstream) -> None:
    image = images.multi_platform()
    group = fleet.customer.import_image(upstream.reference(image), **upstream.login)
    path = f"/organizations/{fleet.organization.name}/projects/{PROJECT}/containers/{group}/platforms"
    assert fleet.operator.call("GET", path).expect(200).json()["platforms"] is None
    own = fleet.operator.call("PUT", path, {"platforms": ["linux/arm64"]}).expect(200).json()
    assert own == {"platforms": ["linux/arm64"], "effective": ["linux/arm64"]}
    basic = {"username": upstream.username, "password": upstream.password}
    change = {"image": upstream.reference(image), "registry_authentication": {"basic": basic}}
    fleet.customer.patch(group, {"container": change})
    arm64 = image.children[1]
    assert fleet.customer.wait_settled(group)["container"]["size"] == size_of(arm64)
    node = fleet.operator.create_node(platform="linux/aarch64")
    token = replace(fleet, group=group).mint(node)
    assert token.digest == arm64.digest
    fleet.pull("skopeo", token, node).check()
