"""What is known of damage, and what the doctor asks."""

from collections.abc import Sequence

import pytest

from registry.catalog.engine.database import Database
from registry.catalog.inspection import SqlInspection
from registry.catalog.jobs import SqlJobQueue
from registry.catalog.key_records import SqlKeyRecords
from registry.catalog.quarantine import DamagedImage, SqlQuarantine
from storage.digest import Digest
from storage.records import KeyRecord
from tests.integration.catalog.test_catalog import SettableClock, a_group, an_image
from tests.support.catalogs import group_catalog
from tests.support.groups import created

IMAGE = an_image()
MANIFEST, LAYER = (content.digest for content in IMAGE.contents)


@pytest.fixture
def quarantine(database: Database) -> SqlQuarantine:
    return SqlQuarantine(database, SettableClock())


async def store(database: Database, *held: tuple[str, Digest, str]) -> Sequence[KeyRecord]:
    """Enter records of tenants, digests and objects."""
    records = SqlKeyRecords(database)
    return [
        await records.add(KeyRecord(tenant, digest, b"f" * 16, name, 1, 2, f"kek-{tenant}", b"w"))
        for tenant, digest, name in held
    ]


async def import_image(database: Database, *names: str) -> None:
    queue = SqlJobQueue(database, SettableClock())
    for name in names:
        await group_catalog(database).create(created(a_group(name)), None)
        job = await queue.claim("worker", 60)
        assert job is not None
        assert await queue.succeed(job, "worker", IMAGE)


async def test_a_damaged_object_is_out_of_service_for_all_until_it_is_lifted(
    database: Database, quarantine: SqlQuarantine
) -> None:
    await store(database, ("acme", LAYER, "one"), ("rival", LAYER, "one"), ("acme", MANIFEST, "two"))
    assert await quarantine.add("one", "cut short")
    assert not await quarantine.add("one", "again")
    assert await quarantine.is_quarantined("one")
    assert not await quarantine.is_quarantined("two")
    found_at = SettableClock().time
    assert [dict(blob) for blob in await quarantine.blobs()] == [
        {"tenant": tenant, "digest": str(LAYER), "reason": "cut short", "found_at": found_at}
        for tenant in ("acme", "rival")
    ]
    records = SqlKeyRecords(database)
    assert await records.get("acme", LAYER) is None
    assert await records.find(LAYER) is None
    await quarantine.lift("one")
    assert await quarantine.blobs() == []
    assert await records.get("acme", LAYER) is not None


async def test_images_with_damaged_and_with_missing_blobs_are_named_once(
    database: Database, quarantine: SqlQuarantine
) -> None:
    await import_image(database, "web", "api")
    both = [
        DamagedImage("acme", "shop", name, 1, "registry.example.com/web:1", IMAGE.digest, IMAGE.platform)
        for name in ("api", "web")
    ]
    assert await quarantine.images() == both, "nothing has a record"
    await store(database, ("acme", MANIFEST, "one"), ("acme", LAYER, "two"))
    assert await quarantine.images() == []
    for name in ("one", "two"):
        await quarantine.add(name, "cut short")
    assert await quarantine.images() == both


async def test_objects_come_by_name_with_the_records_of_all_their_tenants(
    database: Database, quarantine: SqlQuarantine
) -> None:
    mine, theirs, other = await store(
        database, ("acme", LAYER, "one"), ("rival", LAYER, "one"), ("acme", MANIFEST, "two")
    )
    assert await quarantine.objects_after("", 1) == [[mine, theirs]]
    assert await quarantine.objects_after("one", 5) == [[other]]
    assert await quarantine.objects_after("two", 5) == []


async def test_the_doctor_sees_the_revision_imports_and_a_record_of_each_key(database: Database) -> None:
    inspection = SqlInspection(database)
    found, needed = await inspection.revisions()
    assert found == needed != ""
    assert await inspection.jobs() == {}
    await import_image(database, "web")
    assert await inspection.jobs() == {"done": 1}
    records = await store(
        database, ("acme", LAYER, "one"), ("rival", LAYER, "one"), ("acme", MANIFEST, "two")
    )
    chosen = await inspection.record_of_each_key()
    assert sorted(record.kek_id for record in chosen) == ["kek-acme", "kek-rival"]
    assert all(record in records for record in chosen)
