"""Damage, collection, scrubbing, inspection and restoring on a real server, by its own command line."""

import asyncio
import json
import shlex
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPException
from pathlib import Path

import pytest

from registry.catalog.engine.database import Database
from registry.composition.storage import open_blobs
from registry.config import Settings
from storage.digest import Digest
from tests.integration.server.conftest import Shop, open_shop
from tests.support import images
from tests.support.crisper import CRISPER, CrisperServer
from tests.support.http import request
from tests.support.processes import Result, run, wait_until
from tests.support.upstream import Upstream


def crisper(server: CrisperServer, *arguments: str) -> Result:
    return run([str(CRISPER), *arguments, "--data-dir", str(server.data_dir)])


def on_terminal(server: CrisperServer, *arguments: str) -> str:
    command = shlex.join([str(CRISPER), *arguments, "--data-dir", str(server.data_dir)])
    return run(["script", "-qec", command, "/dev/null"], env={"TERM": "xterm"}).check().output


def answer(result: Result) -> dict[str, object]:
    return dict(json.loads(result.check().output[result.output.index("{") :]))


def rows(server: CrisperServer, query: str, *values: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(server.data_dir / "catalog.db")) as catalog:
        return list(catalog.execute(query, values))


def object_of(server: CrisperServer, digest: str, part: str = "object_name") -> Path:
    [(name,)] = rows(server, f"SELECT {part} FROM blob_keys WHERE digest = ?", digest)  # noqa: S608
    return server.data_dir / "blobs" / "objects" / str(name)[:2] / str(name)


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def objects(server: CrisperServer) -> set[Path]:
    return {path for path in (server.data_dir / "blobs" / "objects").rglob("*") if path.is_file()}


# Every layer is one object, so that objects can be counted; deliverable layers have a test of their own.
ONE_OBJECT = {"CRISPER_ENCRYPTION": "none"}


@pytest.fixture(scope="module")
def anonymous(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    with Upstream.anonymous(tmp_path_factory.mktemp("anonymous")) as registry:
        registry.push(images.random_layers())
        registry.push(images.runnable())
        yield registry


@pytest.fixture
def shop(folder: Path, anonymous: Upstream) -> Iterator[Shop]:
    env = {"CRISPER_GC_INTERVAL_S": "0"} | ONE_OBJECT
    with CrisperServer(folder, insecure_registries=[anonymous.host], env=env) as server:
        yield open_shop(server, anonymous, images.random_layers())


def layers(shop: Shop, bearer: str) -> list[str]:
    manifest = shop.get("manifests/latest", bearer).expect(200).json()
    return [str(layer["digest"]) for layer in manifest["layers"]]


def test_damage_cuts_the_response_and_a_new_import_repairs_it(shop: Shop, anonymous: Upstream) -> None:
    bearer = shop.bearer()
    middle, header, *_ = layers(shop, bearer)
    flip(object_of(shop.server, middle), 2_000_000)
    with pytest.raises((OSError, HTTPException)):
        shop.get(f"blobs/{middle}", bearer)
    # The connection is cut first, and then it is told.
    wait_until(
        lambda: bool(shop.server.operator.events(type="blob.damaged")), timeout_s=10, what="damage is told"
    )
    flip(object_of(shop.server, header), 40)
    refused = shop.get(f"blobs/{header}", bearer).expect(500)
    assert refused.json()["errors"][0]["message"].startswith("The stored blob is damaged")
    shop.get(f"blobs/{middle}", bearer).expect(500)

    told = shop.server.operator.events(type="blob.damaged")
    assert {event["detail"]["digest"] for event in told} == {middle, header}
    customer = shop.server.customer(shop.organization)
    state = customer.group(shop.group)["current_state"]
    assert state["description"].startswith("damaged: ")
    examined = crisper(shop.server, "doctor")
    assert examined.returncode == 1
    assert "have damaged or missing blobs" in examined.output

    customer.import_image(anonymous.reference(images.random_layers()))
    bearer = shop.bearer()
    for digest in (middle, header):
        assert shop.get(f"blobs/{digest}", bearer).expect(200).body == images.random_layers().blobs[digest]
    assert "damaged" not in str(customer.group(shop.group)["current_state"].get("description"))
    crisper(shop.server, "doctor").check()


def test_scrubbing_quarantines_damage_and_imports_it_again(shop: Shop, anonymous: Upstream) -> None:
    first, second, *_ = layers(shop, shop.bearer())
    assert answer(crisper(shop.server, "scrub", "--rate", "0", "--json"))["damaged"] == 0
    flip(object_of(shop.server, first), 1_500_000)
    object_of(shop.server, second).unlink()
    found = crisper(shop.server, "scrub", "--rate", "0", "--json")
    assert found.returncode == 1
    assert json.loads(found.output)["damaged"] == 2
    assert len(shop.server.operator.events(type="blob.damaged")) == 2
    mended = answer(
        crisper(
            shop.server,
            "scrub",
            "--rate=0",
            "--repair",
            "--json",
            "--insecure-registry",
            anonymous.host,
        )
    )
    assert [repair["problem"] for repair in mended["repairs"]] == [""]  # type: ignore[attr-defined]
    bearer = shop.bearer()
    for digest in (first, second):
        assert shop.get(f"blobs/{digest}", bearer).expect(200).body == images.random_layers().blobs[digest]
    assert answer(crisper(shop.server, "scrub", "--rate", "0", "--json"))["damaged"] == 0


def test_collection_removes_a_deleted_groups_blobs_only(shop: Shop, anonymous: Upstream) -> None:
    customer = shop.server.customer(shop.organization)
    other = customer.import_image(anonymous.reference(images.runnable()))
    before = objects(shop.server)
    kept = {object_of(shop.server, digest) for digest in layers(shop, shop.bearer())}
    customer.delete(other)
    assert answer(crisper(shop.server, "gc", "--json"))["marked_records"] == 5
    foreseen = answer(crisper(shop.server, "gc", "--dry-run", "--grace", "0", "--json"))
    assert (foreseen["objects"], objects(shop.server)) == (5, before)
    done = answer(crisper(shop.server, "gc", "--grace", "0", "--json"))
    assert (done["objects"], done["bytes"]) == (5, foreseen["bytes"])
    assert len(objects(shop.server)) == len(before) - 5
    assert kept <= objects(shop.server)
    shop.server.customer(shop.organization).delete(shop.group)
    for _ in range(2):
        crisper(shop.server, "gc", "--grace", "0").check()
    assert objects(shop.server) == set()
    assert rows(shop.server, "SELECT count(*) FROM blob_keys") == [(0,)]
    crisper(shop.server, "doctor").check()


def test_a_server_collects_by_itself(folder: Path, anonymous: Upstream) -> None:
    env = {"CRISPER_GC_INTERVAL_S": "0.2", "CRISPER_GC_GRACE_S": "0"} | ONE_OBJECT
    with CrisperServer(folder, insecure_registries=[anonymous.host], env=env) as server:
        shop = open_shop(server, anonymous, images.runnable())
        time.sleep(1)
        assert len(objects(server)) == 5
        server.customer(shop.organization).delete(shop.group)
        wait_until(lambda: not objects(server), timeout_s=20, what="what was deleted is collected")
        wait_until(
            lambda: bool(server.operator.events(type="storage.collected")),
            timeout_s=20,
            what="it is recorded",
        )


def test_collection_makes_no_catalog_where_there_is_none(tmp_path: Path) -> None:
    refused = run([str(CRISPER), "gc", "--data-dir", str(tmp_path)])
    assert refused.returncode == 1
    assert "there is no catalog" in refused.output
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_names_what_is_wrong_and_what_to_do(shop: Shop) -> None:
    server = shop.server
    assert crisper(server, "doctor").check().output.count("ok ") == 9
    (server.data_dir / "operator.key").chmod(0o640)
    object_of(server, layers(shop, shop.bearer())[0]).unlink()
    found = crisper(server, "doctor", "--json")
    assert found.returncode == 1
    problems = {one["subject"]: one for one in json.loads(found.output) if one["level"] == "problem"}
    assert set(problems) == {"files", "blobs"}
    assert "chmod go-rwx" in problems["files"]["advice"]
    assert "is missing" in problems["blobs"]["text"]
    (server.data_dir / "keyring.json").chmod(0o640)
    unopened = crisper(server, "doctor", "--json")
    assert unopened.returncode == 1
    assert "keyring.json" in json.loads(unopened.output)[0]["text"]


def test_progress_is_shown_on_a_terminal(shop: Shop) -> None:
    assert "objects checked" in on_terminal(shop.server, "gc")
    shown, _, _ = on_terminal(shop.server, "scrub", "--rate", "0").partition("read 10 objects")
    assert "0 damaged" in shown


def test_a_backup_of_a_running_server_can_be_restored(
    folder: Path, anonymous: Upstream, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    server = CrisperServer(folder, insecure_registries=[anonymous.host], env=ONE_OBJECT)
    with server:
        shop = open_shop(server, anonymous, images.random_layers())
        assert answer(crisper(server, "backup", str(backup), "--json"))["copied"] == 10
        again = on_terminal(server, "backup", str(backup))
        assert "0 of 10 objects" in again
        assert "0 of them new" in again
    shutil.rmtree(server.data_dir)
    restored = CrisperServer(tmp_path / "restored")
    shutil.copytree(backup, restored.data_dir)
    with restored:
        moved = Shop(restored, shop.organization, shop.node, shop.group, shop.image)
        bearer = moved.bearer()
        for digest in layers(moved, bearer):
            assert moved.get(f"blobs/{digest}", bearer).expect(200).body == shop.image.blobs[digest]
        crisper(restored, "doctor").check()
        request("GET", f"{restored.url}/readyz").expect(200)


def make_deliverable(server: CrisperServer, organization: str, digests: list[str]) -> None:
    """Store layers of a running server in the format OEB2, from another process."""

    async def rekey() -> None:
        settings = Settings(data_dir=server.data_dir)
        database, keys = Database(f"sqlite:///{server.data_dir}/catalog.db"), settings.key_location.open()
        blobs = open_blobs(settings, keys, database)
        for digest in digests:
            await blobs.rekey(organization, Digest.parse(digest))
        await blobs.aclose()
        await keys.aclose()
        await database.close()

    asyncio.run(rekey())


def test_upkeep_treats_both_objects_of_a_deliverable_layer_as_one(
    shop: Shop, anonymous: Upstream, tmp_path: Path
) -> None:
    server, backup = shop.server, tmp_path / "backup"
    digests = layers(shop, shop.bearer())
    before = objects(server)
    make_deliverable(server, shop.organization.name, digests)
    assert len(objects(server)) == len(before) + len(digests)
    bearer = shop.bearer()
    for digest in digests:
        assert shop.get(f"blobs/{digest}", bearer).expect(200).body == shop.image.blobs[digest]
    crisper(server, "doctor").check()
    assert answer(crisper(server, "backup", str(backup), "--json"))["copied"] == len(objects(server))
    assert {path.name for path in (backup / "blobs/objects").rglob("*") if path.is_file()} == {
        path.name for path in objects(server)
    }

    flip(object_of(server, digests[0], "sidecar_name"), 70)
    object_of(server, digests[1], "sidecar_name").unlink()
    flip(object_of(server, digests[2]), 2_000_000)
    object_of(server, digests[3]).unlink()
    examined = crisper(server, "doctor")
    assert "2 of 18 objects do not match the catalog" in examined.output
    found = crisper(server, "scrub", "--rate", "0", "--json")
    assert json.loads(found.output)["damaged"] == 4
    mended = crisper(
        server, "scrub", "--rate=0", "--repair", "--json", f"--insecure-registry={anonymous.host}"
    )
    assert [repair["problem"] for repair in answer(mended)["repairs"]] == [""]  # type: ignore[attr-defined]
    for digest in digests:
        assert shop.get(f"blobs/{digest}", shop.bearer()).expect(200).body == shop.image.blobs[digest]

    server.customer(shop.organization).delete(shop.group)
    for _ in range(2):
        crisper(server, "gc", "--grace", "0").check()
    assert objects(server) == set()
