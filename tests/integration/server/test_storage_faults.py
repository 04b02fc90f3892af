"""A server whose blobs lie in a bucket, and what its callers see when the bucket or the keys fail."""

import json
from collections.abc import Iterator

import pytest

from storage.read.recent import LIFETIME_S
from tests.integration.server.conftest import Shop, open_shop
from tests.support import images
from tests.support.crisper import CRISPER, CrisperServer
from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.object_stores import S3_ENVIRONMENT, S3Server, s3_server
from tests.support.processes import run, wait_until
from tests.support.upstream import Upstream


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(s3: S3Server) -> Iterator[FaultProxy]:
    with fault_proxy(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def bucket_shop(
    s3: S3Server, proxy: FaultProxy, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    url = s3.url("crisper", proxy.endpoint, timeout_s="1", retry_s="1")
    env = {**S3_ENVIRONMENT, "CRISPER_STORAGE_URL": url}
    folder = tmp_path_factory.mktemp("bucket-server")
    with CrisperServer(folder / "server", insecure_registries=[upstream.host], env=env) as server:
        yield open_shop(server, upstream, images.multi_platform())


def pulls(shop: Shop) -> list[int]:
    """Pull the whole image again; return the status of each answer."""
    token = shop.mint()
    bearer = shop.bearer(token)
    manifest = shop.get(f"manifests/{token.digest}", bearer)
    statuses = [manifest.status]
    if manifest.status == 200:
        document = json.loads(manifest.body)
        if "manifests" in document:
            chosen = next(m for m in document["manifests"] if m["platform"]["architecture"] == "amd64")
            answer = shop.get(f"manifests/{chosen['digest']}", bearer)
            statuses.append(answer.status)
            document = json.loads(answer.body)
        blobs = [document["config"], *document["layers"]]
        statuses += [shop.get(f"blobs/{blob['digest']}", bearer).status for blob in blobs]
    return statuses


@pytest.mark.timeout(240)
@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.RESET])
def test_imports_and_pulls_recover_after_a_bucket_failure(
    bucket_shop: Shop, proxy: FaultProxy, s3: S3Server, upstream: Upstream, fault: Fault
) -> None:
    shop = bucket_shop
    customer = shop.server.customer(shop.server.operator.create_organization())
    reference = upstream.reference(images.random_layers())
    known = upstream.login
    deferred = shop.server.log.read_text().count("import.deferred")
    proxy.set(fault)
    try:
        group = customer.create_group(reference, **known)
        wait_until(
            lambda: shop.server.log.read_text().count("import.deferred") > deferred,
            timeout_s=90,
            what="the import waits for the bucket",
        )
        assert customer.group(group)["current_state"]["status"] == "pending"
        during = pulls(shop)  # documents may be at hand in memory; no blob is
        assert set(during) in ({503}, {200, 503})
        assert during[-1] == 503
    finally:
        proxy.set(Fault.NONE)
    assert set(pulls(shop)) == {200}
    assert customer.wait_settled(group, timeout_s=90)["current_state"]["status"] == "stopped"
    assert s3.uploads() == []
    customer.delete(group)


def test_keys_are_rotated_rewrapped_and_shredded_beside_a_running_server(bucket_shop: Shop) -> None:
    shop = bucket_shop

    def keys(*words: str) -> str:
        argv = [str(CRISPER), "keys", *words, "--data-dir", str(shop.server.data_dir)]
        return run(argv, env=S3_ENVIRONMENT).check().output

    old = [
        row
        for row in json.loads(keys("status", "--encryption", "--json"))
        if row["organization"] == shop.organization.name
    ]
    assert [row["state"] for row in old] == ["current"]
    keys("rotate", "--encryption", shop.organization.name)
    assert set(pulls(shop)) == {200}
    done = json.loads(keys("rewrap", "--json"))
    assert (done["rewrapped"], done["damaged"]) == (old[0]["blobs"] + old[0]["secrets"], 0)
    assert set(pulls(shop)) == {200}
    new = [
        row
        for row in json.loads(keys("status", "--encryption", "--json"))
        if row["organization"] == shop.organization.name
    ]
    assert [row["state"] for row in new] == ["current"]
    assert new[0]["key"] != old[0]["key"]

    assert "keys destroyed       2" in keys("shred", shop.organization.name, "--yes")
    wait_until(lambda: 200 not in pulls(shop), timeout_s=4 * LIFETIME_S, what="nothing can be read")
    assert shop.server.process.running
