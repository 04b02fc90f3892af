"""Docker Engine 29, with both of its image stores, pulls and runs images with gzip and with zstd layers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support.built_programs import dockerd
from tests.support.clients import Docker
from tests.support.crisper import Customer, Operator, Organization
from tests.support.dockerd import Containerd, Dockerd, ImageStore
from tests.support.images import GREETING
from tests.support.upstream import Upstream

pytestmark = pytest.mark.full  # the daemon takes minutes to build


@pytest.fixture(scope="module", params=["graph driver", "containerd"])
def docker_29(
    request: pytest.FixtureRequest, workdir: Path, containerd: Containerd
) -> Iterator[tuple[Docker, ImageStore]]:
    store: ImageStore = request.param
    folder = workdir / f"docker-29-{store.split()[0]}"
    with Dockerd(folder, containerd, program=str(dockerd()), store=store) as daemon:
        yield Docker(daemon, folder / "client"), store


@pytest.fixture(scope="module")
def groups(customer: Customer, upstream: Upstream) -> dict[str, str]:
    """Groups whose nodes get gzip layers, the zstd variant of them, or zstd layers of the customer's."""
    found = {}
    for name, image in (("variant", images.compressible()), ("pushed", images.zstd_only())):
        upstream.push(image)
        found[name] = customer.import_image(upstream.reference(image), **upstream.login)
    return found


@pytest.mark.parametrize(
    "asked",
    [("variant", "original", "original"), ("variant", "auto", "zstd"), ("pushed", "auto", "original")],
    ids=["gzip", "zstd variant", "zstd from the customer"],
)
def test_docker_29_pulls_and_runs_layers_of_each_kind(
    docker_29: tuple[Docker, ImageStore],
    operator: Operator,
    organization: Organization,
    groups: dict[str, str],
    asked: tuple[str, str, str],
) -> None:
    docker, _ = docker_29
    group, variant, expected = asked
    node = operator.create_node(zstd=True)
    token = operator.mint(organization, groups[group], node, variant=variant)
    assert token.variant == expected
    docker.pull(token.reference, token.username, token.password(node)).check()
    assert docker.digest(token.reference) == token.digest
    assert docker.run(token.reference).check().output.strip() == GREETING
    shown = operator.call("GET", f"/pull-tokens/{token.token_id}").expect(200).json()
    assert shown["session"]["bytes_delivered"] >= shown["image"]["size"] > 0


def test_docker_29_uses_the_image_store_that_is_asked_for(docker_29: tuple[Docker, ImageStore]) -> None:
    docker, store = docker_29
    shown = docker.info().check().output
    assert ("driver-type: io.containerd.snapshotter.v1" in shown) == (store == "containerd")
