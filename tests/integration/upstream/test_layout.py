"""Pulling into an OCI image layout, as `crisper node pull` does."""

import json
import random
from pathlib import Path

import pytest

from registry.errors import PullFailedError
from registry.model.imports import Progress
from registry.oci.reference import Reference
from registry.upstream.client import UpstreamClient
from registry.upstream.egress import EgressGuard
from registry.upstream.layout import PulledImage, pull_to_layout
from tests.integration.upstream.conftest import FAST, SHORT, credential
from tests.support.distribution import digest_of, make_image, make_index
from tests.support.upstream_faults import FaultyUpstream, body, cut_after

LAYERS = [random.Random(5).randbytes(size) for size in (3_000_000, 10, 0)]
IMAGE = make_image(LAYERS)
INDEX = make_index({"linux/amd64": IMAGE})


async def pull(upstream: FaultyUpstream, folder: Path, reports: list[Progress] | None = None) -> PulledImage:
    async with UpstreamClient(EgressGuard([upstream.host]), timeouts=SHORT, backoff=FAST) as client:
        reference = Reference.parse(f"{upstream.host}/acme/shop/web:1")
        seen = reports if reports is not None else []
        return await pull_to_layout(client, reference, credential(), folder, seen.append)


def blob(folder: Path, digest: str) -> bytes:
    return (folder / "blobs" / digest.replace(":", "/")).read_bytes()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_an_image_lies_whole_in_a_layout(upstream: FaultyUpstream, tmp_path: Path) -> None:
    upstream.add(INDEX)
    upstream.want("robot$ci", "s3cret:päss", realm=f"http://{upstream.host}/token")
    reports: list[Progress] = []
    pulled = await pull(upstream, tmp_path / "new" / "image", reports)
    folder = tmp_path / "new" / "image"
    assert str(pulled.digest) == INDEX.root
    assert str(pulled.manifest_digest) == IMAGE.root
    assert pulled.fetched_bytes == sum(map(len, LAYERS))
    assert json.loads((folder / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads((folder / "index.json").read_bytes())["manifests"]
    assert entry["digest"] == IMAGE.root
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "1"}
    contents = {IMAGE.root: IMAGE.root_bytes} | IMAGE.blobs
    assert {digest: blob(folder, digest) for digest in contents} == contents
    assert not list(folder.rglob("*.part"))
    assert str(reports[-1]) == "pulling: 3 of 3 layers, 100 %"


async def test_a_cut_is_resumed_and_a_second_pull_fetches_nothing(
    upstream: FaultyUpstream, tmp_path: Path
) -> None:
    upstream.add(IMAGE)
    first = digest_of(LAYERS[0])
    upstream.fail(first, cut_after(2_500_000), cut_after(0))
    await pull(upstream, tmp_path)
    again = await pull(upstream, tmp_path)
    assert again.fetched_bytes == 0
    starts = upstream.starts(first)
    assert len(starts) == 4
    # The third request asks whether the registry gives the whole blob, because a range failed.
    assert 0 == starts[0] == starts[2] < starts[1] == starts[3] <= 2_500_000


async def test_a_damaged_blob_is_fetched_again(upstream: FaultyUpstream, tmp_path: Path) -> None:
    upstream.add(IMAGE)
    await pull(upstream, tmp_path)
    damaged = tmp_path / "blobs" / digest_of(LAYERS[0]).replace(":", "/")
    damaged.write_bytes(b"x" * len(LAYERS[0]))
    assert (await pull(upstream, tmp_path)).fetched_bytes == len(LAYERS[0])
    assert damaged.read_bytes() == LAYERS[0]


async def test_wrong_bytes_leave_neither_a_blob_nor_an_index(
    upstream: FaultyUpstream, tmp_path: Path
) -> None:
    upstream.add(IMAGE)
    upstream.fail(digest_of(LAYERS[0]), body(b"x" * len(LAYERS[0])))
    with pytest.raises(PullFailedError, match="other bytes for the"):
        await pull(upstream, tmp_path)
    assert files(tmp_path) == []
