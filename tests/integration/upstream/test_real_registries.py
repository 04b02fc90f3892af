"""Imports from Debian's docker-registry, as customers' self-hosted registries are."""

import base64
import random
from pathlib import Path

import pytest
from aiohttp import web

from registry.errors import AuthenticationFailedError, ImageTooLargeError, PullFailedError
from registry.model.images import ContentKind
from registry.model.imports import Progress, Stage
from registry.oci.reference import Reference
from registry.upstream.client import UpstreamClient
from registry.upstream.egress import EgressGuard
from tests.integration.upstream.conftest import Bench, credential
from tests.support.distribution import (
    OCI_MANIFEST,
    Image,
    TokenServer,
    docker_registry,
    htpasswd,
    make_image,
    make_index,
    push,
    serve,
)

RANDOM = random.Random(7)
LAYERS = [RANDOM.randbytes(size) for size in (0, 1, 300_000, 5 << 20)]
BASIC = {"Authorization": "Basic " + base64.b64encode("robot$ci:s3cret:päss".encode()).decode()}


def two_platforms() -> Image:
    amd64 = make_image(LAYERS)
    arm64 = make_image([b"other"], architecture="arm64")
    return make_index({"linux/arm64/v8": arm64, "linux/amd64": amd64}, attested=True)


async def test_an_image_behind_htpasswd_arrives_with_the_upstreams_digest(
    bench: Bench, tmp_path: Path
) -> None:
    image = make_image(LAYERS)
    auth = await htpasswd(tmp_path, "robot$ci", "s3cret:päss")
    async with docker_registry(tmp_path, auth) as host:
        await push(host, "team/app", "1.0", image, BASIC)
        stored = await bench.run(f"{host}/team/app:1.0", credential())
    assert str(stored.digest) == image.root == str(stored.manifest_digest)
    assert stored.platform == "linux/amd64"
    assert stored.size_bytes == sum(map(len, image.blobs.values()))
    assert {str(content.digest) for content in stored.contents} == {image.root, *image.blobs}
    await bench.holds(image)
    assert bench.reports[0] == Progress(Stage.PULLING)
    assert bench.reports[-2].layers_done == bench.reports[-2].layers_total == len(LAYERS)
    assert bench.reports[-2].bytes_done == bench.reports[-2].bytes_total == sum(map(len, LAYERS))
    assert bench.reports[-1].stage is Stage.STORING


async def test_of_an_index_the_platform_comes_and_the_index_is_kept(bench: Bench, tmp_path: Path) -> None:
    index = two_platforms()
    async with docker_registry(tmp_path) as host:
        await push(host, "app", "latest", index, {})
        stored = await bench.run(f"{host}/app")
    assert str(stored.digest) == index.root
    kinds = [content.kind for content in stored.contents]
    assert kinds[:3] == [ContentKind.INDEX, ContentKind.MANIFEST, ContentKind.CONFIG]
    assert kinds[3:] == [ContentKind.LAYER] * len(LAYERS)
    assert await bench.read(index.root) == index.root_bytes


async def test_a_docker_schema_2_image_is_stored_byte_for_byte(bench: Bench, tmp_path: Path) -> None:
    image = make_image([*LAYERS, LAYERS[2]], docker=True)
    async with docker_registry(tmp_path) as host:
        await push(host, "app", "latest", image, {})
        stored = await bench.run(f"{host}/app@{image.root}")
    assert len([c for c in stored.contents if c.kind is ContentKind.LAYER]) == len(LAYERS)
    await bench.holds(image)


async def test_wrong_credentials_fail_to_authenticate_without_repeating_them(
    bench: Bench, tmp_path: Path
) -> None:
    auth = await htpasswd(tmp_path, "robot$ci", "s3cret:päss")
    async with docker_registry(tmp_path, auth) as host:
        with pytest.raises(AuthenticationFailedError, match="check user name") as failure:
            await bench.run(f"{host}/app", credential(password="wr0ng"))
        with pytest.raises(AuthenticationFailedError, match="registry_authentication"):
            await bench.run(f"{host}/app")
    assert "wr0ng" not in repr(failure.value) + str(failure.value)


async def test_a_tag_that_is_not_there_is_a_failure_to_pull_that_names_it(
    bench: Bench, tmp_path: Path
) -> None:
    async with docker_registry(tmp_path) as host:
        with pytest.raises(PullFailedError, match="app:nope"):
            await bench.run(f"{host}/app:nope")


async def test_an_image_over_the_limit_is_refused_before_a_layer_is_fetched(
    bench: Bench, tmp_path: Path
) -> None:
    bench.limit = 1_000_000
    async with docker_registry(tmp_path) as host:
        await push(host, "app", "latest", make_image(LAYERS), {})
        with pytest.raises(ImageTooLargeError, match=r"5,5.*bytes.*1,000,000 bytes"):
            await bench.run(f"{host}/app")
    assert bench.reports == [Progress(Stage.PULLING)]


async def test_a_head_says_what_a_tag_is(tmp_path: Path) -> None:
    image = make_image(LAYERS)
    async with docker_registry(tmp_path) as host, UpstreamClient(EgressGuard([host])) as client:
        await push(host, "app", "1", image, {})
        source = await client.open(Reference.parse(f"{host}/app:1"))
        found = await source.resolve("1")
        assert (str(found.digest), found.size_bytes) == (image.root, len(image.root_bytes))
        assert found.media_type == OCI_MANIFEST
        with pytest.raises(PullFailedError, match="has no manifest"):
            await source.resolve("2")


async def test_a_registry_with_token_auth_is_asked_through_its_realm(bench: Bench, tmp_path: Path) -> None:
    image = two_platforms()
    tokens = TokenServer(tmp_path, "robot$ci", "s3cret:päss")
    app = web.Application()
    app.router.add_get("/token", tokens.answer)
    async with serve(app) as realm_host:
        tokens.realm = f"http://{realm_host}/token"
        async with docker_registry(tmp_path, tokens.auth) as host:
            bearer = tokens.token("team/app", ["pull", "push"])
            await push(host, "team/app", "1", image, {"Authorization": f"Bearer {bearer}"})
            with pytest.raises(AuthenticationFailedError, match="not known to belong"):
                await bench.run(f"{host}/team/app:1", credential(), insecure=(host, realm_host))
            assert tokens.exchanges == []
            stored = await bench.run(
                f"{host}/team/app:1", credential(), insecure=(host, realm_host), realms={host: {realm_host}}
            )
    assert str(stored.digest) == image.root
    assert tokens.exchanges == [{"service": "upstream", "scope": "repository:team/app:pull"}]
