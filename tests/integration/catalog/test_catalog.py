import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, select

from auth.audit import AuthEventType
from auth.ports import AuditEvent, Binding, Node
from registry.audit.types import RegistryEventType
from registry.catalog.api_keys import SqlApiKeyDirectory
from registry.catalog.blob_origins import SqlBlobOrigins
from registry.catalog.collection import SqlCollection
from registry.catalog.engine.database import Database, SystemClock
from registry.catalog.events import SqlEventLog
from registry.catalog.jobs import SqlJobQueue
from registry.catalog.key_records import SqlKeyRecords
from registry.catalog.nodes import SqlNodeRegistry
from registry.catalog.organizations import SqlOrganizationDirectory
from registry.catalog.tables import jobs, metadata
from registry.errors import ConflictError, QuotaExceededError
from registry.model.api_keys import ApiKey
from registry.model.groups import Group, GroupKey, GroupStatus
from registry.model.images import ContentKind, ImageContent, StoredImage
from registry.model.organizations import Organization
from storage.digest import Digest
from storage.records import KeyRecord
from tests.support.catalogs import group_catalog
from tests.support.groups import created

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


class SettableClock:
    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time


NODE_CREATED = AuditEvent(RegistryEventType.NODE_CREATED, node_id="pc-1")
NODE_REVOKED = AuditEvent(RegistryEventType.NODE_REVOKED, node_id="pc-1")
KEY_CREATED = AuditEvent(RegistryEventType.API_KEY_CREATED, "acme")


def a_group(name: str = "web", organization: str = "acme") -> Group:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Group(
        id=str(uuid4()),
        key=GroupKey(organization, "shop", name),
        image="registry.example.com/web:1",
        spec={"replicas": 3},
        version=1,
        autostart=False,
        status=GroupStatus.PENDING,
        status_description="pulling",
        status_since=now,
        created_at=now,
        updated_at=now,
        job_id=str(uuid4()),
    )


def an_image(seed: bytes = b"image") -> StoredImage:
    layer, manifest = Digest.of(b"layer" + seed), Digest.of(b"manifest" + seed)
    return StoredImage(
        digest=manifest,
        manifest_digest=manifest,
        platform="linux/amd64",
        contents=(
            ImageContent(manifest, ContentKind.MANIFEST, MANIFEST, 700),
            ImageContent(
                layer, ContentKind.LAYER, "application/vnd.oci.image.layer.v1.tar+gzip", 5_000_000_000
            ),
        ),
        size_bytes=5_000_000_000,
    )


async def test_the_migrations_make_exactly_the_tables_that_the_code_declares(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async with database.write() as connection:
        assert await connection.run_sync(differences) == []


async def test_migrating_again_changes_nothing(database: Database) -> None:
    group = a_group()
    await group_catalog(database).create(created(group), None)
    await database.migrate()
    assert await group_catalog(database).get(group.key) == group


async def test_a_group_comes_back_as_it_was_created(database: Database) -> None:
    catalog, group = group_catalog(database), a_group()
    await catalog.create(created(group), None)
    assert await catalog.get(group.key) == group
    for place, found in {("acme", "shop"): [group], ("acme", "other"): [], ("rival", "shop"): []}.items():
        assert await catalog.page(*place, limit=9, max_spec_bytes=10**6) == (found, False)


async def test_a_taken_name_is_a_conflict_and_leaves_the_first_group_alone(database: Database) -> None:
    catalog, first = group_catalog(database), a_group()
    await catalog.create(created(first), None)
    with pytest.raises(ConflictError, match="web"):
        await catalog.create(created(a_group()), None)
    assert await catalog.get(first.key) == first


async def test_an_import_that_succeeds_makes_its_image_visible_under_the_group(database: Database) -> None:
    catalog, queue = group_catalog(database), SqlJobQueue(database, SystemClock())
    group, image = a_group(), an_image()
    await catalog.create(created(group), b"wrapped")
    job = await queue.claim("w1", 20)
    assert job is not None
    assert (job.group_id, job.attempt, job.credential_key) == (group.id, 1, b"wrapped")
    assert await catalog.tags(group.key.repository) == []

    assert await queue.succeed(job, "w1", image)

    ready = await catalog.get(group.key)
    assert ready is not None
    assert (ready.status, ready.image_digest, ready.image_size_bytes) == (
        GroupStatus.STOPPED,
        image.digest,
        image.size_bytes,
    )
    assert await catalog.image(group.id, 1) == image
    assert await catalog.image_by_digest("acme/shop/web", str(image.digest)) == image
    assert await catalog.image_by_digest("acme/shop/api", str(image.digest)) is None
    assert await catalog.tags("acme/shop/web") == ["latest", "v1"]
    assert await catalog.version_digests("acme/shop/web", 1) == [image.digest]
    assert await catalog.version_digests("acme/shop/web", 2) == []
    async with database.read() as connection:
        assert (await connection.execute(select(jobs.c.credential_key))).scalar_one() is None


async def test_autostart_goes_on_to_deploying(database: Database) -> None:
    catalog, queue = group_catalog(database), SqlJobQueue(database, SystemClock())
    group = replace(a_group(), autostart=True, started=True)
    await catalog.create(created(group), None)
    job = await queue.claim("w1", 20)
    assert job is not None
    await queue.succeed(job, "w1", an_image())
    ready = await catalog.get(group.key)
    assert ready is not None
    assert ready.status is GroupStatus.DEPLOYING


async def test_a_failed_import_tells_the_customer_why_and_the_trail_too(database: Database) -> None:
    catalog, clock = group_catalog(database), SystemClock()
    queue, events = SqlJobQueue(database, clock), SqlEventLog(database, clock)
    group = a_group()
    await catalog.create(created(group), b"wrapped")
    job = await queue.claim("w1", 20)
    assert job is not None
    assert await queue.fail(job, "w1", "failed to pull", "There is no tag 9.")
    failed = await catalog.get(group.key)
    assert failed is not None
    assert (failed.status, failed.status_description) == (
        GroupStatus.FAILED,
        "failed to pull: There is no tag 9.",
    )
    _, event = await events.page()
    assert (event.type, event.cause) == ("group.failed", "failed to pull")


async def test_a_job_is_leased_to_one_worker_until_the_lease_lapses(database: Database) -> None:
    clock = SettableClock()
    catalog, queue = group_catalog(database), SqlJobQueue(database, clock)
    await catalog.create(created(a_group()), None)
    first = await queue.claim("w1", 20)
    assert first is not None
    assert await queue.claim("w2", 20) is None
    clock.time += timedelta(seconds=15)
    assert await queue.heartbeat(first.id, "w1", 20)
    clock.time += timedelta(seconds=15)
    assert await queue.claim("w2", 20) is None
    clock.time += timedelta(seconds=6)
    second = await queue.claim("w2", 20)
    assert second is not None
    assert (second.id, second.attempt) == (first.id, 2)
    assert not await queue.heartbeat(first.id, "w1", 20)
    assert not await queue.succeed(first, "w1", an_image())
    assert not await queue.fail(first, "w1", "failed to pull", "late")
    assert await queue.succeed(second, "w2", an_image())


async def test_workers_that_claim_at_once_get_different_jobs(database: Database) -> None:
    catalog, queue = group_catalog(database), SqlJobQueue(database, SystemClock())
    for n in range(8):
        await catalog.create(created(a_group(f"web-{n}")), None)
    claimed = await asyncio.gather(*(queue.claim(f"w{n}", 20) for n in range(16)))
    ids = [job.id for job in claimed if job]
    assert len(ids) == len(set(ids))
    while job := await queue.claim("late", 20):
        ids.append(job.id)
    assert len(set(ids)) == len(ids) == 8


async def test_deleting_a_group_deletes_its_job_and_versions_only(
    database: Database,
) -> None:
    catalog, queue = group_catalog(database), SqlJobQueue(database, SystemClock())
    one, two = a_group("one"), a_group("two")
    for group in (one, two):
        await catalog.create(created(group), None)
        job = await queue.claim("w", 20)
        assert job is not None
        assert await queue.succeed(job, "w", an_image())
    removed = await catalog.delete(one.key)
    assert removed is not None
    assert removed.id == one.id
    assert await catalog.get(one.key) is None
    assert await catalog.delete(one.key) is None
    assert await catalog.tags("acme/shop/one") == []
    assert await catalog.image(two.id, 1) == an_image()


async def test_deleting_a_group_stops_its_running_import(database: Database) -> None:
    catalog, queue, group = (
        group_catalog(database),
        SqlJobQueue(database, SystemClock()),
        a_group(),
    )
    await catalog.create(created(group), None)
    job = await queue.claim("w", 20)
    assert job is not None
    await catalog.delete(group.key)
    assert not await queue.heartbeat(job.id, "w", 20)
    assert not await queue.succeed(job, "w", an_image())


async def test_nodes_are_struck_off_and_never_come_back(database: Database) -> None:
    nodes = SqlNodeRegistry(database, SystemClock())
    node = Node("pc-1", Binding.SECRET, b"h" * 32, (ip_network("10.0.0.0/8"), ip_network("fd00::/8")))
    await nodes.add(node, NODE_CREATED)
    assert await nodes.get("pc-1") == node
    assert await nodes.get("pc-2") is None
    assert await nodes.revoke("pc-1", NODE_REVOKED)
    assert await nodes.revoke("pc-1", NODE_REVOKED)
    assert not await nodes.revoke("pc-2", NODE_REVOKED)
    struck = await nodes.get("pc-1")
    assert struck is not None
    assert struck.revoked_at is not None
    with pytest.raises(ConflictError, match="pc-1"):
        await nodes.add(node, NODE_CREATED)
    assert [n.node_id for n in await nodes.list(limit=9)] == ["pc-1"]
    recorded = [stored.type for stored in await SqlEventLog(database, SystemClock()).page()]
    assert recorded == ["node.created", "node.revoked"]


async def test_nodes_are_listed_page_by_page_and_by_a_part_of_their_id(database: Database) -> None:
    nodes = SqlNodeRegistry(database, SystemClock())
    for node_id in ("b-%", "a-2", "c-1", "a-1"):
        await nodes.add(Node(node_id, Binding.SECRET, b"0" * 32), NODE_CREATED)
    await nodes.revoke("a-1", NODE_REVOKED)

    async def ids(**query: Any) -> list[str]:  # noqa: ANN401 (arguments of `list`)
        return [node.node_id for node in await nodes.list(**query)]

    assert await ids(limit=3) == ["a-1", "a-2", "b-%"]
    assert await ids(limit=3, after="b-%") == ["c-1"]
    assert await ids(limit=9, containing="%") == ["b-%"]
    assert await ids(limit=1, only_active=True) == ["a-2"]
    assert await nodes.count() == (3, 1)


@pytest.mark.parametrize("odd", ["a\0", "\udcff", "n" * 129, ""])
async def test_a_name_that_no_node_can_have_spoils_no_other_lookup(database: Database, odd: str) -> None:
    nodes = SqlNodeRegistry(database, SystemClock())
    node = Node("pc-1", Binding.SECRET, b"0" * 32)
    await nodes.add(node, NODE_CREATED)
    found = await asyncio.gather(*(nodes.get(name) for name in ("pc-1", odd, "pc-1")))
    assert found == [node, None, node]


async def test_organizations_are_found_by_name(database: Database) -> None:
    organizations = SqlOrganizationDirectory(database)
    acme = Organization("acme", datetime(2026, 1, 1, tzinfo=UTC))
    await organizations.add(acme)
    assert await organizations.get("acme") == acme
    bolt = replace(acme, name="bolt")
    await organizations.add(bolt)
    assert await organizations.list(limit=1) == [acme]
    assert await organizations.list(limit=9, after="acme") == [bolt]
    assert await organizations.list(limit=9, containing="ol") == [bolt]
    with pytest.raises(ConflictError, match="acme"):
        await organizations.add(acme)


async def test_keys_are_several_and_found_by_their_hash_until_they_are_revoked(database: Database) -> None:
    await SqlOrganizationDirectory(database).add(Organization("acme", datetime(2026, 1, 1, tzinfo=UTC)))
    keys = SqlApiKeyDirectory(database, SystemClock())
    first, second = (
        ApiKey(f"key-{n}", "acme", f"number {n}", datetime(2026, 1, n, tzinfo=UTC)) for n in (1, 2)
    )
    await keys.add(first, b"a" * 32, KEY_CREATED, limit=2)
    await keys.add(second, b"b" * 32, KEY_CREATED, limit=2)
    with pytest.raises(QuotaExceededError, match="api_keys is 2"):
        await keys.add(replace(first, key_id="key-3"), b"c" * 32, KEY_CREATED, limit=2)
    assert await keys.by_hash(b"a" * 32) == first
    assert await keys.by_hash(b"x" * 32) is None
    for _ in range(2):
        await keys.revoke(first, AuditEvent(RegistryEventType.API_KEY_REVOKED, "acme"))
    assert await keys.by_hash(b"a" * 32) is None
    assert await keys.by_hash(b"b" * 32) == second
    assert [key.revoked_at is None for key in await keys.list("acme")] == [False, True]
    recorded = [stored.type for stored in await SqlEventLog(database, SystemClock()).page()]
    assert recorded == ["api_key.created", "api_key.created", "api_key.revoked"]


async def test_events_page_by_cursor_and_filter(database: Database) -> None:
    events = SqlEventLog(database, SystemClock())
    for n in range(5):
        await events.record(AuditEvent(AuthEventType.TOKEN_MINTED, "acme", token_id=f"t{n}", detail={"n": n}))
    await events.record(AuditEvent(AuthEventType.TOKEN_REFUSED, "acme", token_id="t1", cause="replayed"))
    first = await events.page(limit=4)
    rest = await events.page(after=first[-1].cursor)
    assert [e.token_id for e in [*first, *rest]] == ["t0", "t1", "t2", "t3", "t4", "t1"]
    assert [e.cause for e in await events.page(type_="token.refused")] == ["replayed"]
    assert len(await events.page(token_id="t1")) == 2
    assert len(await events.page(organization="rival")) == 0


async def test_key_records_keep_the_first_and_count_their_objects(database: Database) -> None:
    records = SqlKeyRecords(database)
    digest = Digest.of(b"x")
    mine = KeyRecord("acme", digest, b"f" * 16, "obj", 1, 2, "kek-1", b"w" * 60)
    assert await records.add(mine) == mine
    assert await records.add(replace(mine, object_name="other")) == mine
    theirs = await records.add(replace(mine, tenant="rival"))
    assert theirs.tenant == "rival"
    assert await records.uses("obj") == 2
    assert await records.find(digest) in (mine, theirs)
    assert await records.remove("acme", digest) == mine
    assert await records.remove("acme", digest) is None
    assert await records.get("acme", digest) is None
    assert await records.uses("obj") == 1


async def test_the_origins_of_a_blob_are_kept_until_it_is_deleted(database: Database) -> None:
    clock = SettableClock()
    origins, records = SqlBlobOrigins(database, clock), SqlKeyRecords(database)
    digest, other = Digest.of(b"blob"), Digest.of(b"other")
    await records.add(KeyRecord("acme", digest, bytes(16), "0" * 64, 4, 100, "kek", b"wrapped"))
    for _ in range(2):
        await origins.add(digest, "ghcr.io")
        await origins.add(other, "ghcr.io")
    assert await origins.has(digest, "ghcr.io")
    assert not await origins.has(digest, "quay.io")
    await SqlCollection(database, clock).remove_images()
    assert await origins.has(digest, "ghcr.io")
    assert not await origins.has(other, "ghcr.io")
