"""Signing keys are rotated while servers run and nodes pull."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

from tests.integration.server.conftest import Shop, open_shop
from tests.support import images
from tests.support.crisper import CRISPER, CrisperServer
from tests.support.http import request
from tests.support.processes import run, wait_until
from tests.support.upstream import Upstream


@pytest.fixture
def busy(tmp_path: Path, upstream: Upstream) -> Iterator[Shop]:
    """Two worker processes."""
    env = {"CRISPER_WORKERS": "2"}
    with CrisperServer(tmp_path / "server", insecure_registries=[upstream.host], env=env) as server:
        yield open_shop(server, upstream, images.multi_platform())


def keys(shop: Shop, *command: str) -> list[dict[str, str]]:
    argv = [str(CRISPER), "keys", *command, "--data-dir", str(shop.server.data_dir), "--json"]
    told = json.loads(run(argv).check().output)
    return told if isinstance(told, list) else [told]


def signer(bearer: str) -> str:
    return str(jwt.get_unverified_header(bearer)["kid"])


def test_no_pull_fails_while_keys_rotate_under_load(busy: Shop) -> None:
    (old,) = keys(busy, "status")
    tag = f"manifests/{busy.mint().reference.rpartition(':')[2]}"
    failures: list[str] = []
    signers: list[str] = []
    stopping = threading.Event()

    def pull() -> None:
        held = busy.bearer()
        while not stopping.is_set():
            token = busy.mint()
            exchange = busy.exchange(token)
            if exchange.status != 200:
                failures.append(f"exchange {exchange.status}")
                continue
            fresh = str(exchange.json()["token"])
            signers.append(signer(fresh))
            shown = [(signer(bearer), busy.get(tag, bearer).status) for bearer in (fresh, held)]
            failures.extend(f"manifest {status}, signed by {kid}" for kid, status in shown if status != 200)

    pulling = [threading.Thread(target=pull) for _ in range(4)]
    for thread in pulling:
        thread.start()
    (new,) = keys(busy, "rotate", "--signing", "--overlap", "5")
    assert new["state"] == "published"
    wait_until(lambda: new["key_id"] in signers[-1:], timeout_s=15, what="the new key signs")
    time.sleep(1.5)
    stopping.set()
    for thread in pulling:
        thread.join()
    assert failures == []
    change = signers.index(new["key_id"])
    assert set(signers[:change]) == {old["key_id"]}
    assert old["key_id"] not in signers[change + 8 :]
    assert [key["state"] for key in keys(busy, "status")] == ["verify-only", "signing"]
    assert len(signers) > 50


def test_a_compromised_key_is_gone_at_once_with_all_that_it_signed(busy: Shop) -> None:
    token, bearer = busy.mint(), busy.bearer()
    path = f"manifests/{token.reference.rpartition(':')[2]}"
    busy.get(path, bearer).expect(200)
    (new,) = keys(busy, "rotate", "--signing", "--compromised")
    wait_until(
        lambda: all(busy.get(path, bearer).status == 401 for _ in range(8)),
        timeout_s=10,
        what="bearers of the old key are refused by every process",
    )
    assert busy.exchange(token).status == 401
    assert signer(busy.bearer()) == new["key_id"]
    assert [key["key_id"] for key in keys(busy, "status")] == [new["key_id"]]


def test_the_public_keys_are_cached_until_they_change(shop: Shop) -> None:
    url = f"{shop.server.url}/.well-known/jwks.json"
    first = request("GET", url).expect(200)
    assert first.headers["Cache-Control"] == "public, max-age=300"
    assert first.headers["Content-Type"] == "application/jwk-set+json"
    known = {"If-None-Match": first.headers["ETag"]}
    again = request("GET", url, headers=known).expect(304)
    assert (again.body, again.headers["ETag"]) == (b"", first.headers["ETag"])
    keys(shop, "rotate", "--signing", "--overlap", "3600")
    wait_until(
        lambda: request("GET", url, headers=known).status == 200, timeout_s=5, what="the new key is published"
    )
    assert len(request("GET", url).json()["keys"]) == 2
    second = run([str(CRISPER), "keys", "rotate", "--signing", "--data-dir", str(shop.server.data_dir)])
    assert not second.ok
    assert "already published" in second.output
