"""What the portal lists."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from auth.audit import AuthEventType
from auth.ports import AuditEvent
from registry.catalog import event_times
from registry.catalog.engine.database import Database, SystemClock
from registry.catalog.events import SqlEventLog
from registry.catalog.jobs import SqlJobQueue
from registry.catalog.key_records import SqlKeyRecords
from registry.catalog.maintenance import SqlUpkeep
from registry.catalog.organizations import SqlOrganizationDirectory
from registry.catalog.overview import (
    EventFilter,
    GroupFilter,
    GroupOrder,
    SqlOverview,
    StorageUsage,
    VersionRow,
)
from registry.catalog.quarantine import SqlQuarantine
from registry.model.groups import Group, GroupStatus
from registry.model.images import Variant
from registry.model.organizations import Organization
from storage.digest import Digest
from storage.records import KeyRecord
from tests.integration.catalog.test_catalog import SettableClock, a_group, an_image
from tests.support.catalogs import group_catalog
from tests.support.groups import created

IMAGE = an_image()
GB_5 = 5_000_000_000


class World:
    """A catalog that is filled through its own adapters, an hour apart."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = SettableClock()
        self.groups = group_catalog(database)
        self.queue = SqlJobQueue(database, self.clock)
        self.overview = SqlOverview(database)

    async def create(self, name: str, organization: str = "acme", image: str = "ghcr.io/acme/web:1") -> Group:
        self.clock.time += timedelta(hours=1)
        group = replace(a_group(name, organization), image=image, created_at=self.clock.time)
        await self.groups.create(created(group), None)
        return group

    async def imported(self, *, zstd: bool = False) -> None:
        job = await self.queue.claim("worker", 60)
        assert job is not None
        smaller = replace(IMAGE, digest=Digest.of(b"zstd"), variant=Variant.ZSTD, size_bytes=GB_5 - 1)
        image = replace(IMAGE, zstd=smaller) if zstd else IMAGE
        assert await self.queue.succeed(job, "worker", image)

    async def names(self, words: str = "", organization: str | None = None, **page: int) -> Sequence[str]:
        page = {"limit": 10, "offset": 0, **page}
        wanted = GroupFilter(organization, words=words)
        return [row.key.name for row in await self.overview.groups(wanted, **page)]


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


async def test_groups_are_listed_newest_first_page_by_page(world: World) -> None:
    for number in range(3):
        await world.create(f"web-{number}")
    assert await world.names() == ["web-2", "web-1", "web-0"]
    assert await world.names(limit=2) == ["web-2", "web-1"]
    assert await world.names(limit=2, offset=2) == ["web-0"]


async def test_groups_are_found_by_what_stands_in_their_names_and_images(world: World) -> None:
    await world.create("a_b")
    await world.create("proxy", image="docker.io/library/nginx:1")
    await world.create("theirs", organization="rival")
    for words, found in {
        "NGIN": ["proxy"],
        "rival": ["theirs"],
        "shop": ["theirs", "proxy", "a_b"],
        "a_b": ["a_b"],  # an underscore stands for itself, as does a percent sign
        "%": [],
        "\\": [],
        "' OR 1=1 --": [],
    }.items():
        assert await world.names(words) == found, words


async def test_groups_are_listed_by_organization_and_status_with_stored_size(
    world: World,
) -> None:
    ready = await world.create("ready")
    await world.imported()
    imported_at = world.clock.time
    await world.create("waiting")
    await world.create("theirs", organization="rival")
    assert await world.names(organization="acme") == ["waiting", "ready"]
    (row,) = await world.overview.groups(GroupFilter("acme", status=GroupStatus.STOPPED), limit=10, offset=0)
    assert (row.key, row.status, row.version) == (ready.key, GroupStatus.STOPPED, 1)
    assert (row.size_bytes, row.job_id) == (GB_5, ready.job_id)
    assert row.updated_at == imported_at
    (row,) = await world.overview.groups(GroupFilter("acme", status=GroupStatus.PENDING), limit=10, offset=0)
    assert (row.key.name, row.size_bytes) == ("waiting", None)


async def test_groups_are_listed_by_project_and_time_in_the_chosen_order(world: World) -> None:
    small = await world.create("small")
    await world.imported()
    await world.create("big")
    await world.create("late", organization="rival")

    async def names(**wanted: object) -> list[str]:
        found = await world.overview.groups(GroupFilter(**wanted), limit=10, offset=0)  # type: ignore[arg-type]
        return [row.key.name for row in found]

    orders = {order: await names(order=order) for order in GroupOrder}
    assert orders[GroupOrder.NEWEST] == ["late", "big", "small"]
    assert orders[GroupOrder.OLDEST] == ["small", "big", "late"]
    assert orders[GroupOrder.NAME] == ["big", "late", "small"]
    assert orders[GroupOrder.LARGEST][0] == "small"
    assert len(orders[GroupOrder.CHANGED]) == 3
    assert await names(created_after=small.created_at + timedelta(minutes=1)) == ["late", "big"]
    assert await names(project=small.key.project, organization="acme") == ["big", "small"]
    assert await names(project="none") == []


@pytest.mark.parametrize("near", [1, 1000])
async def test_events_of_a_time_are_found_although_some_are_appended_late(
    world: World, monkeypatch: pytest.MonkeyPatch, near: int
) -> None:
    monkeypatch.setattr(event_times, "_NEAR", near)
    monkeypatch.setattr(event_times, "_SAMPLES", 3)
    clock = SettableClock()
    log = SqlEventLog(world.database, clock)
    began = clock.now()
    for hour in range(40):
        late = timedelta(minutes=50 if hour % 7 == 3 else 0)
        clock.time = began + timedelta(hours=hour) - late
        await log.record(AuditEvent(AuthEventType.TOKEN_MINTED, "acme", detail={"hour": hour}))

    async def hours(since: int | None, until: int | None) -> list[object]:
        times = [None if hour is None else began + timedelta(hours=hour) for hour in (since, until)]
        found = await world.overview.events(EventFilter(since=times[0], until=times[1]), limit=100)
        return [event.detail["hour"] for event in found]

    for since, until in ((5, 12), (0, 40), (30, None), (None, 4), (50, 60), (-9, -2), (12, 5)):
        low, high = since if since is not None else -99, until if until is not None else 99
        expected = [
            hour for hour in range(39, -1, -1) if low <= hour - (50 / 60 if hour % 7 == 3 else 0) < high
        ]
        assert await hours(since, until) == expected, (since, until)


async def test_a_groups_versions_tell_their_size_in_both_encodings(world: World) -> None:
    group = await world.create("web")
    await world.imported(zstd=True)
    other = await world.create("other")
    (found,) = await world.overview.versions(group.id)
    stored = datetime(2026, 1, 1, 1, tzinfo=UTC)
    assert found == VersionRow(
        1, "ghcr.io/acme/web:1", str(IMAGE.digest), "linux/amd64", GB_5, GB_5 - 1, stored
    )
    assert await world.overview.versions(other.id) == []


async def test_a_reference_was_private_if_its_last_import_used_credentials(world: World) -> None:
    group = await world.create("web")
    assert not await world.overview.was_private(group.id, group.image)
    private = replace(a_group("locked"), image="ghcr.io/acme/locked:1")
    await world.groups.create(created(private), b"wrapped key")
    assert await world.overview.was_private(private.id, private.image)
    assert not await world.overview.was_private(private.id, "ghcr.io/acme/other:1")


async def test_events_are_listed_newest_first_by_what_they_are_of(world: World) -> None:
    log = SqlEventLog(world.database, SystemClock())
    await log.record(
        AuditEvent(AuthEventType.TOKEN_MINTED, "acme", token_id="t1", node_id="pc-1", detail={"n": 1})
    )
    await log.record(
        AuditEvent(AuthEventType.TOKEN_REFUSED, "acme", token_id="t1", cause="replayed", source="::1")
    )
    await log.record(AuditEvent(AuthEventType.TOKEN_MINTED, "rival", token_id="t2", node_id="pc-1"))

    async def types(wanted: EventFilter, before: int | None = None) -> list[str]:
        return [each.type for each in await world.overview.events(wanted, before=before)]

    newest, *rest = await world.overview.events(EventFilter())
    assert (newest.organization, len(rest)) == ("rival", 2)
    assert rest[-1].detail == {"n": 1}
    assert await types(EventFilter(), before=newest.cursor) == ["token.refused", "token.minted"]
    assert await types(EventFilter(type="token.minted", organization="acme")) == ["token.minted"]
    assert await types(EventFilter(token_id="t1")) == ["token.refused", "token.minted"]
    assert await types(EventFilter(node_id="pc-1")) == ["token.minted", "token.minted"]
    assert len(await world.overview.events(EventFilter(), limit=2)) == 2


async def test_storage_by_organization_counts_shared_objects_once_in_all(world: World) -> None:
    assert await world.overview.occupancy() == []
    assert await world.overview.objects() == (0, 0)
    records = SqlKeyRecords(world.database)
    await world.create("web")
    await world.create("api")
    for tenant, name, size_bytes in (("acme", "one", GB_5), ("acme", "two", GB_5), ("rival", "one", GB_5)):
        record = KeyRecord(
            tenant,
            Digest.of(name.encode()),
            b"f" * 16,
            name,
            size_bytes,
            size_bytes + 1,
            f"kek-{tenant}",
            b"w",
        )
        await records.add(record)
    assert await world.overview.occupancy() == [
        StorageUsage("acme", groups=2, blobs=2, size_bytes=2 * GB_5, stored_bytes=2 * GB_5 + 2),
        StorageUsage("rival", groups=0, blobs=1, size_bytes=GB_5, stored_bytes=GB_5 + 1),
    ]
    assert await world.overview.objects() == (2, 2 * GB_5 + 2)
    assert await world.overview.wrapping_keys() == {"kek-acme": 2, "kek-rival": 1}


async def test_the_system_page_counts_imports_damage_and_chores(world: World) -> None:
    await world.create("web")
    await world.imported()
    await world.create("api")
    assert await world.overview.imports() == {"done": 1, "queued": 1}
    assert await world.overview.damaged() == 0
    await SqlQuarantine(world.database, world.clock).add("one", "cut short")
    assert await world.overview.damaged() == 1
    upkeep = SqlUpkeep(world.database, world.clock)
    for name in ("scrub", "collect"):
        assert await upkeep.acquire(name, "me", 60)
    await upkeep.finish("scrub", "me", {})
    assert await world.overview.chores() == {"collect": None, "scrub": world.clock.time}


async def test_organizations_are_listed_by_name(world: World) -> None:
    directory = SqlOrganizationDirectory(world.database)
    for name in ("rival", "acme"):
        await directory.add(Organization(name, world.clock.time))
    assert await world.overview.organizations() == ["acme", "rival"]
