"""Collection over the real catalog: what is marked, what is spared, what goes."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registry.catalog.collection import SqlBlobPins, SqlCollection
from registry.catalog.engine.database import Database
from registry.catalog.events import SqlEventLog
from registry.catalog.jobs import SqlJobQueue
from registry.catalog.key_records import SqlKeyRecords
from registry.catalog.maintenance import SqlUpkeep
from registry.errors import CatalogUnavailableError, ConflictError
from registry.maintenance.collection import Collection
from registry.maintenance.lease import Lease
from registry.model.groups import Group, GroupStatus
from registry.model.images import ContentKind, ImageContent, StoredImage
from storage.backends.memory import MemoryBackend
from storage.digest import Digest
from storage.errors import BlobNotFoundError, CollectionRefusedError, StorageUnavailableError
from storage.keys.local import LocalKeyring
from storage.records import KeyRecord
from storage.upkeep.gc import Collected
from tests.integration.catalog.test_catalog import SettableClock, a_group
from tests.support.blobs import FORMATS, get, put
from tests.support.catalogs import group_catalog
from tests.support.collection_soak import soak
from tests.support.groups import created, updated

GRACE_S = 3600.0
BLOBS = [b"config", b"layer one", b"layer two"]


class World:
    """One server's storage and catalog, with blobs of both formats, and a clock that the test turns."""

    def __init__(self, database: Database, backend: MemoryBackend, keyring: LocalKeyring) -> None:
        self.clock = SettableClock()
        self.clock.time = datetime(2026, 1, 2, tzinfo=UTC)
        self.backend = backend
        self.records = SqlKeyRecords(database)
        self.stores = [
            store_type(backend, keyring, self.records, keyring.name_key, threads=2)
            for store_type in FORMATS.values()
        ]
        self.store = self.stores[0]
        self.catalog = group_catalog(database, self.clock)
        self.queue = SqlJobQueue(database, self.clock)
        self.pins = SqlBlobPins(database)
        self.dead = SqlCollection(database, self.clock)
        self.upkeep = SqlUpkeep(database, self.clock)
        self.events = SqlEventLog(database, self.clock)
        self.collection = Collection(self.store, self.dead, self.upkeep, self.clock)

    def later(self, seconds: float) -> None:
        self.clock.time += timedelta(seconds=seconds)

    async def collect(self, *, dry_run: bool = False, force: bool = False) -> Collected:
        return await self.collection.run(GRACE_S, dry_run=dry_run, force=force)

    async def import_image(self, name: str = "web", blobs: Sequence[bytes] = BLOBS) -> Group:
        group = a_group(name)
        await self.catalog.create(created(group), None)
        job = await self.queue.claim("worker", 60)
        assert job is not None
        for number, blob in enumerate(blobs):
            await put(self.stores[number % 2], "acme", blob)
        assert await self.queue.succeed(job, "worker", image_of(blobs))
        return group


def image_of(blobs: Sequence[bytes]) -> StoredImage:
    contents = tuple(ImageContent(Digest.of(b), ContentKind.LAYER, "layer", len(b)) for b in blobs)
    root = Digest.of(b"".join(blobs))
    return StoredImage(root, root, "linux/amd64", contents, 1)


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> AsyncIterator[World]:
    world = World(database, MemoryBackend(), LocalKeyring.create(tmp_path / "keyring.json"))
    yield world
    for store in world.stores:
        await store.aclose()


async def test_what_a_group_needs_is_never_marked(world: World) -> None:
    await world.import_image()
    for _ in range(2):
        done = await world.collect()
        assert (done.objects_seen, done.marked_records, done.marked_objects, done.records) == (4, 0, 0, 0)
        world.later(10 * GRACE_S)
    for blob in BLOBS:
        assert await get(world.store, "acme", Digest.of(blob)) == blob


async def test_an_image_stays_for_a_while_after_its_group_with_image_caching_was_deleted(
    world: World,
) -> None:
    world.dead._cache = timedelta(days=7)
    for name, caching in (("kept", True), ("plain", False)):
        blob = name.encode()
        group = await world.import_image(name, [blob])
        spec = {"container": {"image_caching": caching}}
        stored_group = await world.catalog.get(group.key)
        assert stored_group is not None
        changed = stored_group.update(spec, None, now=world.clock.now())
        assert await world.catalog.change(stored_group, changed)
        await world.catalog.delete(group.key)
    for days, left in ((7, {b"kept"}), (0, set())):
        for _ in range(3):
            await world.collect()
            world.later(2 * GRACE_S)
        stored = {blob for blob in (b"kept", b"plain") if await is_stored(world, blob)}
        assert stored == left
        world.later(days * 86400)


async def is_stored(world: World, blob: bytes) -> bool:
    return await world.records.get("acme", Digest.of(blob)) is not None


async def test_a_superseded_version_goes_when_its_last_token_has_expired(world: World) -> None:
    first = await world.import_image()
    before = await world.catalog.get(first.key)
    assert before is not None
    second = replace(
        before, version=2, status=GroupStatus.PENDING, job_id="second", updated_at=world.clock.now()
    )
    assert await world.catalog.change(before, updated(second))
    world.later(30 * 3600)
    await world.collect()
    assert await world.catalog.tags(first.key.repository) == ["latest", "v1"]
    job = await world.queue.claim("worker", 60)
    assert job is not None
    await put(world.store, "acme", b"another layer")
    assert await world.queue.succeed(job, "worker", image_of([BLOBS[0], b"another layer"]))
    world.later(25 * 3600)
    await world.collect()
    assert await world.catalog.tags(first.key.repository) == ["latest", "v1", "v2"]
    world.later(2 * 3600)
    assert (await world.collect()).images == 1
    assert await world.catalog.tags(first.key.repository) == ["latest", "v2"]
    world.later(GRACE_S)
    await world.collect()
    world.later(GRACE_S)
    await world.collect()
    assert len(world.backend.objects) == 2


async def test_a_deleted_groups_blobs_go_after_the_grace_and_not_before(world: World) -> None:
    kept = await world.import_image("kept", BLOBS[:2])
    gone = await world.import_image("gone")
    await world.catalog.delete(gone.key)
    assert (await world.collect()).marked_records == 1
    world.later(GRACE_S - 1)
    assert (await world.collect()).records == 0
    world.later(1)
    foreseen = await world.collect(dry_run=True)
    assert (foreseen.records, foreseen.objects, len(world.backend.objects)) == (1, 1, 4)
    done = await world.collect()
    assert (done.records, done.objects, done.bytes) == (1, 1, foreseen.bytes)
    assert done.bytes > 0
    assert len(world.backend.objects) == 3
    with pytest.raises(BlobNotFoundError):
        await world.store.open("acme", Digest.of(BLOBS[2]))
    assert (await world.catalog.get(kept.key)) is not None
    told = await world.events.page(type_="storage.collected")
    assert [event.detail["objects"] for event in told] == [1]


async def test_a_blob_that_is_used_again_restarts_its_grace(world: World) -> None:
    first = await world.import_image("first")
    await world.catalog.delete(first.key)
    assert (await world.collect()).marked_records == 3
    world.later(GRACE_S)
    second = await world.import_image("second")
    assert (await world.collect()).records == 0
    await world.catalog.delete(second.key)
    assert (await world.collect()).records == 0
    world.later(GRACE_S)
    assert (await world.collect()).records == 3
    assert world.backend.objects == {}


async def test_a_pinned_blob_is_spared_until_its_import_ends(world: World) -> None:
    first = await world.import_image("first")
    await world.catalog.delete(first.key)
    await world.collect()
    world.later(10 * GRACE_S)
    now = world.clock.now()
    group = replace(a_group("second"), created_at=now, updated_at=now)
    await world.catalog.create(created(group), None)
    job = await world.queue.claim("worker", 60)
    assert job is not None
    await world.pins.pin(job.id, "acme", [Digest.of(blob) for blob in BLOBS[:2]])
    await world.pins.pin(job.id, "acme", [Digest.of(BLOBS[0])])
    assert (await world.collect()).records == 1
    assert await world.store.contains("acme", Digest.of(BLOBS[0]))
    assert not await world.store.contains("acme", Digest.of(BLOBS[2]))
    await world.queue.fail(job, "worker", "failed to pull", "gone")
    await world.collect()
    world.later(GRACE_S)
    assert (await world.collect()).records == 2


async def test_what_a_running_import_brought_unpinned_is_spared_while_it_runs(world: World) -> None:
    await world.catalog.create(created(a_group()), None)
    job = await world.queue.claim("worker", 60)
    assert job is not None
    await put(world.store, "acme", b"brought, but never pinned")
    for _ in range(2):
        assert (await world.collect()).records == 0
        world.later(10 * GRACE_S)
    await world.queue.fail(job, "worker", "failed to pull", "gone")
    assert (await world.collect()).records == 1


async def test_pinning_for_a_job_that_is_gone_changes_nothing(world: World) -> None:
    await world.pins.pin("no such job", "acme", [Digest.of(b"x")])
    assert (await world.collect()).records == 0


async def test_an_orphan_is_deleted_after_the_grace_and_not_linked_again(world: World) -> None:
    await world.import_image()
    world.backend.objects["0a" * 32] = b"an object whose writer is slow, or dead"
    assert (await world.collect()).marked_objects == 1
    world.later(GRACE_S)
    done = await world.collect()
    assert (done.objects, done.bytes, done.marked_objects) == (1, 39, 0)
    late = KeyRecord("acme", Digest.of(b"late"), bytes(16), "0a" * 32, 4, 39, "kek", b"wrapped")
    with pytest.raises(StorageUnavailableError, match="collected"):
        await world.records.add(late)
    world.later(8 * 86_400)
    await world.collect()
    assert await world.records.add(late) == late


async def test_a_dry_run_writes_nothing(world: World) -> None:
    gone = await world.import_image()
    await world.catalog.delete(gone.key)
    world.backend.objects["0a" * 32] = b"orphan"
    for _ in range(2):
        done = await world.collect(dry_run=True)
        assert (done.objects, done.marked_records, done.marked_objects) == (0, 0, 0)
        world.later(GRACE_S)
    assert len(world.backend.objects) == 5


async def test_a_listing_that_fails_half_way_removes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = await world.import_image()
    await world.catalog.delete(gone.key)
    await world.collect()
    world.later(GRACE_S)

    def names() -> object:
        yield "0b" * 32
        raise StorageUnavailableError("the listing broke off")

    monkeypatch.setattr(world.backend, "names", names)
    with pytest.raises(StorageUnavailableError):
        await world.collect()
    assert len(world.backend.objects) == 4
    monkeypatch.undo()
    assert (await world.collect()).records == 3  # the lease was given back


async def test_a_catalog_that_fails_half_way_removes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unknown(_names: Sequence[str]) -> Sequence[str]:
        raise CatalogUnavailableError("the catalog does not answer")

    await world.import_image()
    monkeypatch.setattr(world.dead, "unknown", unknown)
    with pytest.raises(CatalogUnavailableError):
        await world.collect()
    assert len(world.backend.objects) == 4


async def test_a_catalog_that_knows_nothing_of_storage_is_not_believed(world: World) -> None:
    await world.import_image()
    world.backend.objects |= {f"{n:064x}": b"" for n in range(150)}
    with pytest.raises(CollectionRefusedError, match="150 of 154"):
        await world.collect()
    await world.collect(force=True)
    world.later(GRACE_S)
    assert (await world.collect(force=True)).objects == 150


async def test_one_process_collects_at_a_time_and_a_dead_ones_lease_lapses(world: World) -> None:
    async with Lease.hold(world.upkeep, "gc"):
        with pytest.raises(ConflictError, match="gc"):
            await world.collect()
        world.later(61)
        await world.collect()


async def test_collection_is_due_once_an_interval(world: World) -> None:
    await world.collection.run_if_due(600, GRACE_S)
    first = (await world.upkeep.state("gc")).finished_at
    world.later(599)
    await world.collection.run_if_due(600, GRACE_S)
    assert (await world.upkeep.state("gc")).finished_at == first
    world.later(1)
    await world.collection.run_if_due(600, GRACE_S)
    assert (await world.upkeep.state("gc")).finished_at == world.clock.time


async def test_collection_beside_all_writers_loses_nothing_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    counts = await soak(tmp_path, rounds=2, imports=12)
    assert counts["imported"] + counts["failed"] == 24
    assert counts["collected"] > 0


async def test_the_platforms_of_an_image_stay_as_long_as_the_image(world: World) -> None:
    parts = tuple(
        replace(image_of([blob]), digest=Digest.of(b"root"), platform=platform)
        for blob, platform in zip(BLOBS, ("linux/amd64", "linux/arm64"), strict=False)
    )
    contents = tuple(content for part in parts for content in part.contents)
    image = replace(
        parts[0],
        platform="linux/amd64,linux/arm64",
        contents=contents,
        index_digest=Digest.of(b"index"),
        platforms=parts,
    )
    group = a_group("several")
    await world.catalog.create(created(group), None)
    job = await world.queue.claim("worker", 60)
    assert job is not None
    for blob in BLOBS[:2]:
        await put(world.store, "acme", blob)
    assert await world.queue.succeed(job, "worker", image)
    for _ in range(3):
        assert (await world.collect()).images == 0
        world.later(GRACE_S)
    stored = await world.catalog.image(group.id, 1)
    assert stored is not None
    assert [part.platform for part in stored.platforms] == ["linux/amd64", "linux/arm64"]
    for part in parts:
        found = await world.catalog.image_by_digest(group.key.repository, str(part.manifest_digest))
        assert found is not None
        assert found.platform == part.platform
        assert part.manifest_digest in await world.catalog.version_digests(group.key.repository, 1)
    await world.catalog.delete(group.key)
    assert (await world.collect()).images == 3
    world.later(GRACE_S)
    await world.collect()
    world.later(GRACE_S)
    await world.collect()
    assert not world.backend.objects
