"""A server's imports from the registry programs that customers host: 3 GB, and a registry that is down.

Each takes minutes. `pytest -m full -s` prints the figures.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.random_upstream import MANIFEST_TYPE, RandomImage, make_images
from tests.support.crisper import CrisperServer, Customer
from tests.support.cutting_relay import CuttingRelay
from tests.support.images import Image
from tests.support.processes import wait_until
from tests.support.pushing import push_blob, push_manifest
from tests.support.real_registries import OWNER, REGISTRIES, RealRegistry
from tests.support.upstream import PASSWORD, USERNAME

pytestmark = [pytest.mark.full, pytest.mark.timeout(1_800)]

REPOSITORY = f"{OWNER}/large"
CHUNK_BYTES = 1 << 20
CUT_AFTER_BYTES = [size << 20 for size in (400, 50, 300, 100, 200)]
DOWN_S = 90
RATE_BYTES_S = 20_000_000
SETTLED_S = 900


@pytest.fixture(params=REGISTRIES)
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RealRegistry]:
    folder = tmp_path / "registry"
    folder.mkdir()
    with REGISTRIES[request.param](folder, private=True) as started:
        yield started


def push(registry: RealRegistry, size_bytes: int) -> RandomImage:
    """Push an image of one layer as `REPOSITORY`."""
    (image,) = make_images(size_bytes, layers=1)
    ((digest, layer),) = image.layers.items()
    chunks = (layer.read(at, CHUNK_BYTES) for at in range(0, layer.size_bytes, CHUNK_BYTES))
    url = repository_url(registry)
    push_blob(url, digest, chunks, layer.size_bytes, registry.headers)
    push_blob(url, image.config_digest, [image.config], len(image.config), registry.headers)
    push_document(registry, image)
    return image


def repository_url(registry: RealRegistry) -> str:
    return f"http://{registry.host}/v2/{REPOSITORY}"


def push_document(registry: RealRegistry, image: RandomImage) -> None:
    document = Image(REPOSITORY, MANIFEST_TYPE, image.manifest, {}, ())
    push_manifest(repository_url(registry), "latest", document, registry.headers)


def received_bytes(customer: Customer, group: str) -> int:
    """Return how much of the group's image the server has received so far."""
    progress = customer.call("GET", f"{group}/progress").expect(200).json()["progress"]
    return int(progress["bytes_done"]) if progress else 0


def test_of_3_gb_that_are_cut_five_times_hardly_a_byte_is_fetched_twice(
    registry: RealRegistry, tmp_path: Path
) -> None:
    image = push(registry, 3_000_000_000)
    unavoidable_bytes = 0 if registry.answers_ranges else sum(CUT_AFTER_BYTES)
    with CuttingRelay(registry.port, *CUT_AFTER_BYTES) as relay:
        with CrisperServer(tmp_path / "crisper", insecure_registries=[relay.host]) as server:
            customer = server.customer(server.operator.create_organization())
            began = time.monotonic()
            group = customer.create_group(
                f"{relay.host}/{REPOSITORY}:latest", username=USERNAME, password=PASSWORD
            )
            state = customer.wait_settled(group, timeout_s=SETTLED_S)["current_state"]
            took_s = time.monotonic() - began
        again = (relay.delivered_bytes - unavoidable_bytes) / image.size_bytes - 1
        print(f"\n{took_s:.0f} s, 5 cuts: {again:.2%} fetched twice, {unavoidable_bytes=}")  # noqa: T201
        assert not relay.cuts
    assert state["status"] == "stopped", state
    assert again < 0.05


def test_an_import_waits_for_a_registry_that_is_down_for_90_s(registry: RealRegistry, tmp_path: Path) -> None:
    image = push(registry, 300_000_000)
    env = {"CRISPER_IMPORT_BYTES_PER_S": str(RATE_BYTES_S)}
    with CrisperServer(tmp_path / "crisper", insecure_registries=[registry.host], env=env) as server:
        customer = server.customer(server.operator.create_organization())
        group = customer.create_group(
            f"{registry.host}/{REPOSITORY}:latest", username=USERNAME, password=PASSWORD
        )
        wait_until(
            lambda: received_bytes(customer, group) > image.size_bytes / 3,
            timeout_s=60,
            what="a third is here",
        )
        registry.kill()
        time.sleep(DOWN_S)
        assert customer.status(group) == "pending", json.dumps(customer.group(group)["current_state"])
        registry.start()
        push_document(registry, image)  # go-containerregistry has its manifests in memory
        state = customer.wait_settled(group, timeout_s=SETTLED_S)["current_state"]
    assert state["status"] == "stopped", state
