"""Imports from the registry programs that customers host themselves (`tests.support.real_registries`).

Gitea's are marked `full`: on an idle machine with two cores, its first build takes more than three minutes.
"""

import asyncio
import math
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from registry.errors import AuthenticationFailedError, PullFailedError
from registry.imports.transfer import TransferOptions
from registry.upstream.ranges import DownloadOptions, PrefetchBudget
from registry.upstream.response import Timeouts
from registry.upstream.retry import Backoff
from storage.backends.memory import MemoryBackend
from storage.blobs import BlobStore
from tests.integration.upstream.conftest import Bench, credential
from tests.support import images
from tests.support.cutting_relay import CuttingRelay
from tests.support.images import Image, Layer
from tests.support.real_registries import REGISTRIES, RealRegistry
from tests.support.upstream import PASSWORD, USERNAME

CUSTOMER = credential(USERNAME, PASSWORD)
SMALL = [images.multi_platform(), images.docker_schema2()]
TINY = [images.layer([(f"file-{number}", b"content", 0o644)]) for number in range(127)]
ODD = [
    images.build("acme/no-layers", []),
    images.build("acme/127-layers", TINY),
    images.build("acme/empty-layer", [TINY[0], images.layer([]), TINY[1]], docker=True),
    images.build("acme/same-layer-twice", [TINY[0], TINY[1], TINY[0]]),
]
LARGE = images.build("acme/large", [Layer.raw(random.Random(17).randbytes(80 << 20))])
MIDWAY_BYTES = 30 << 20
#: By the number of connections: after how many bytes of answers each of five is cut.
CUTS = {1: [size << 20 for size in (30, 3, 17, 5, 9)], 4: [5 << 20] * 5}

KINDS = [pytest.param(name, marks=[pytest.mark.full] * (name == "gitea")) for name in REGISTRIES]

Start = Callable[[bool], RealRegistry]


@pytest.fixture(scope="module", params=KINDS)
def start(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Return a function that starts one kind of registry, private or public, and fills it, once."""
    running: dict[bool, RealRegistry] = {}
    with ExitStack() as stack:

        def started(private: bool) -> RealRegistry:  # noqa: FBT001
            if private not in running:
                folder = tmp_path_factory.mktemp(request.param)
                registry = stack.enter_context(REGISTRIES[request.param](folder, private=private))
                for image in [*SMALL, LARGE] if private else [*SMALL, *ODD]:
                    registry.push(image)
                running[private] = registry
            return running[private]

        yield started


@pytest.fixture
def bench(store: BlobStore, backend: MemoryBackend) -> Bench:
    """Imports with the patience of production: these registries are real, and so is their slowness."""
    return Bench(store, backend, backoff=Backoff(), timeouts=Timeouts())


@pytest.fixture
def public(start: Start) -> RealRegistry:
    return start(False)


@pytest.fixture
def private(start: Start) -> RealRegistry:
    return start(True)


async def holds(bench: Bench, image: Image) -> None:
    """Check that the documents and blobs for linux/amd64 are stored, byte for byte."""
    platform = (image.children or (image,))[0]
    for digest, content in {image.digest: image.manifest, **platform.blobs}.items():
        if not image.children or digest in platform.blobs:
            assert await bench.read(digest) == content


@pytest.mark.parametrize("image", [*SMALL, *ODD], ids=lambda image: image.name)
async def test_a_public_image_is_imported(bench: Bench, public: RealRegistry, image: Image) -> None:
    stored = await bench.run(f"{public.host}/{image.name}:latest")
    assert str(stored.digest) == image.digest
    await holds(bench, image)


@pytest.mark.parametrize("image", SMALL, ids=lambda image: image.name)
async def test_a_private_image_is_imported_with_credentials(
    bench: Bench, private: RealRegistry, image: Image
) -> None:
    stored = await bench.run(f"{private.host}/{image.name}@{image.digest}", CUSTOMER)
    assert str(stored.digest) == image.digest
    await holds(bench, image)


async def test_a_private_image_needs_the_right_credentials(bench: Bench, private: RealRegistry) -> None:
    reference = f"{private.host}/{SMALL[0].name}:latest"
    with pytest.raises(AuthenticationFailedError) as refused:
        await bench.run(reference, credential(USERNAME, "wr0ng"))
    assert private.host in str(refused.value)
    assert "wr0ng" not in str(refused.value) + repr(refused.value)
    with pytest.raises(AuthenticationFailedError):
        await bench.run(reference)


@pytest.mark.parametrize(
    "missing", ["acme/multi:nope", "acme/nope:latest", f"acme/multi@{'sha256:' + '0' * 64}"]
)
async def test_an_image_that_is_missing_is_named(bench: Bench, private: RealRegistry, missing: str) -> None:
    with pytest.raises(PullFailedError) as failed:
        await bench.run(f"{private.host}/{missing}", CUSTOMER)
    assert f"{private.host}/{missing}" in str(failed.value)


@pytest.mark.parametrize("connections", CUTS)
async def test_of_a_layer_that_is_cut_five_times_hardly_a_byte_is_fetched_twice(
    bench: Bench, private: RealRegistry, connections: int
) -> None:
    download = DownloadOptions(PrefetchBudget(bench.ahead_bytes), connections, quick_bytes_per_s=math.inf)
    bench.options = TransferOptions(download)
    size_bytes, cuts = len(LARGE.layers[0].tar), CUTS[connections]
    unavoidable_bytes = 0 if private.answers_ranges else sum(cuts)
    with CuttingRelay(private.port, *cuts) as relay:
        await bench.run(f"{relay.host}/{LARGE.name}:latest", CUSTOMER)
        assert not relay.cuts
        again = (relay.delivered_bytes - unavoidable_bytes) / size_bytes - 1
    print(f"{connections} connections, {len(cuts)} cuts: {again:.2%} fetched twice, {unavoidable_bytes=}")  # noqa: T201
    assert again < 0.05
    await holds(bench, LARGE)


async def test_a_registry_that_is_restarted_midway_is_waited_for(bench: Bench, private: RealRegistry) -> None:
    midway, resumed = asyncio.Event(), asyncio.Event()
    received_bytes = 0

    async def pace(count: int) -> None:
        nonlocal received_bytes
        received_bytes += count
        if received_bytes >= MIDWAY_BYTES and not midway.is_set():
            midway.set()
            await resumed.wait()

    bench.options = TransferOptions(DownloadOptions(PrefetchBudget(bench.ahead_bytes), pace=pace))
    importing = asyncio.create_task(bench.run(f"{private.host}/{LARGE.name}:latest", CUSTOMER))
    await asyncio.wait_for(midway.wait(), 20)
    await asyncio.to_thread(private.kill)
    resumed.set()
    await asyncio.to_thread(private.start)
    await importing
    await holds(bench, LARGE)
