"""Large layers from go-containerregistry's own registry, at any speed (cuts: `test_registry_programs`)."""

import random
from collections.abc import Iterator

import pytest

from registry.imports.transfer import TransferOptions
from registry.upstream.ranges import DownloadOptions, PrefetchBudget
from tests.integration.upstream.conftest import Bench
from tests.support.distribution import digest_of, make_image, push
from tests.support.go_registry import GoRegistry

LAYER = random.Random(17).randbytes(80 << 20)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoRegistry]:
    server = GoRegistry(tmp_path_factory.mktemp("go-registry"))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
async def image(registry: GoRegistry) -> str:
    """Return the layer's digest; the registry serves it as `app:1`."""
    await push(registry.host, "app", "1", make_image([LAYER]), {})
    return digest_of(LAYER)


@pytest.mark.parametrize("quick", [True, False], ids=["one stream", "parallel ranges"])
async def test_a_large_layer_is_imported_at_any_speed(
    bench: Bench, registry: GoRegistry, image: str, *, quick: bool
) -> None:
    if quick:
        downloads = DownloadOptions(PrefetchBudget(bench.ahead_bytes), quick_bytes_per_s=1)
        bench.options = TransferOptions(downloads)
    await bench.run(f"{registry.host}/app:1")
    assert await bench.read(image) == LAYER
