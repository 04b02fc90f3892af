"""containerd 2 reads a layer in chunks: overlapping, open-ended ranges whose responses it ends early."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support.clients import Ctr
from tests.support.crisper import CrisperServer
from tests.support.dockerd import Containerd
from tests.support.images import MIB
from tests.support.upstream import PASSWORD, USERNAME, Upstream

CHUNK_BYTES = 256 << 10


@pytest.fixture(scope="module")
def chunking(workdir: Path) -> Iterator[Ctr]:
    with Containerd(workdir / "containerd-2", chunk_bytes=CHUNK_BYTES) as daemon:
        yield Ctr(daemon)


@pytest.mark.parametrize(("count", "size_bytes"), [(1, 64 * MIB), (12, 4 * MIB)])
def test_containerd_is_charged_about_what_it_read(
    chunking: Ctr, upstream: Upstream, crisper: CrisperServer, count: int, size_bytes: int
) -> None:
    operator, image = crisper.operator, images.random_layers(count, size_bytes, "acme/chunks")
    upstream.push(image)
    organization, node = operator.create_organization(), operator.create_node()
    group = crisper.customer(organization).import_image(
        upstream.reference(image), username=USERNAME, password=PASSWORD
    )
    token = operator.mint(organization, group, node)
    chunking.pull(token.reference, token.username, token.password(node)).check()
    delivered = operator.token(token)["session"]["bytes_delivered"]
    assert count * size_bytes <= delivered < 2 * count * size_bytes
