"""What the catalog keeps of transfers: quotas, turns of organizations, unfinished containers."""

import asyncio
from datetime import timedelta

import pytest

from registry.catalog.collection import SqlBlobPins, SqlCollection
from registry.catalog.engine.database import Database
from registry.catalog.import_quotas import SqlImportQuota
from registry.catalog.jobs import SqlJobQueue
from registry.catalog.organizations import SqlOrganizationDirectory
from registry.catalog.partials import MAX_AGE, SqlPartials
from registry.catalog.quotas import SqlQuotas
from registry.errors import PullFailedError
from registry.model.groups import GroupKey
from registry.model.imports import ImportJob
from registry.model.organizations import Organization
from registry.model.quotas import Quotas
from storage.digest import Digest
from storage.records import KeyRecord
from tests.integration.catalog.test_catalog import SettableClock, a_group
from tests.support.catalogs import group_catalog
from tests.support.groups import created

DIGEST = Digest.of(b"a layer")


def job(name: str, organization: str = "acme") -> ImportJob:
    return ImportJob(f"job-{name}", name, GroupKey(organization, "shop", name), 1, "app", attempt=1)


def partial(name: str = "a", tenant: str = "acme") -> KeyRecord:
    return KeyRecord(tenant, DIGEST, name[0].encode() * 16, f"object-{name}", 10**9, 0, "kek-1", b"wrapped")


async def test_an_organization_imports_no_more_than_its_quota_within_a_day(database: Database) -> None:
    clock = SettableClock()
    quota = SqlImportQuota(database, clock, SqlQuotas(database, clock, Quotas(import_bytes_per_day=100)))
    await quota.charge(job("one"), 60)
    await quota.charge(job("one"), 60)  # it starts over
    await quota.charge(job("two"), 40)
    with pytest.raises(PullFailedError, match="24 hours"):
        await quota.charge(job("three"), 1)
    await quota.charge(job("other", "rival"), 100)
    clock.time += timedelta(hours=25)
    await quota.charge(job("three"), 100)


async def test_imports_that_are_charged_at_once_do_not_overdraw_together(database: Database) -> None:
    clock = SettableClock()
    quota = SqlImportQuota(database, clock, SqlQuotas(database, clock, Quotas(import_bytes_per_day=100)))
    charged = await asyncio.gather(*(quota.charge(job(str(n)), 30) for n in range(8)), return_exceptions=True)
    assert sum(result is None for result in charged) == 3


async def test_without_a_quota_any_import_is_admitted_and_counted(database: Database) -> None:
    clock = SettableClock()
    quotas = SqlQuotas(database, clock)
    await SqlOrganizationDirectory(database).add(Organization("acme", clock.now()))
    await SqlImportQuota(database, clock, quotas).charge(job("one"), 10**15)
    assert (await quotas.report("acme")).usage.import_bytes_per_day == 10**15
    clock.time += timedelta(hours=25)
    assert (await quotas.report("acme")).usage.import_bytes_per_day == 0


async def test_an_organizations_turns_are_limited_and_others_go_first(database: Database) -> None:
    clock = SettableClock()
    queue, catalog = (
        SqlJobQueue(database, clock, SqlQuotas(database, clock, Quotas(imports=2))),
        group_catalog(database),
    )
    for number, organization in enumerate(["acme", "acme", "acme", "rival"]):
        await catalog.create(created(a_group(f"web-{number}", organization)), None)
    claimed = [await queue.claim(f"w{n}", 60) for n in range(4)]
    assert [each.key.organization if each else None for each in claimed] == ["acme", "rival", "acme", None]
    clock.time += timedelta(seconds=61)  # all their workers are dead
    assert [await queue.claim("w9", 60) is not None for _ in range(4)] == [True, True, True, False]


async def test_the_organization_with_the_fewest_running_imports_is_next(database: Database) -> None:
    queue, catalog = SqlJobQueue(database, SettableClock()), group_catalog(database)
    for number, organization in enumerate(["acme"] * 4 + ["rival"] * 2 + ["third"]):
        await catalog.create(created(a_group(f"web-{number}", organization)), None)
    claimed = [await queue.claim(f"w{n}", 60) for n in range(7)]
    order = [each.key.organization for each in claimed if each]
    assert order[:3] == ["acme", "rival", "third"]
    assert order[3:] == ["acme", "rival", "acme", "acme"]


async def test_workers_that_claim_at_once_do_not_exceed_an_organizations_turns(database: Database) -> None:
    clock = SettableClock()
    queue = SqlJobQueue(database, clock, SqlQuotas(database, clock, Quotas(imports=2)))
    catalog = group_catalog(database)
    for number in range(6):
        await catalog.create(created(a_group(f"web-{number}")), None)
    claimed = await asyncio.gather(*(queue.claim(f"w{n}", 60) for n in range(6)))
    assert sum(each is not None for each in claimed) == 2


async def test_a_worker_is_told_which_jobs_are_still_its_own(database: Database) -> None:
    clock = SettableClock()
    queue, catalog = SqlJobQueue(database, clock), group_catalog(database)
    kept, deleted = a_group("kept"), a_group("deleted")
    await catalog.create(created(kept), None)
    await catalog.create(created(deleted), None)
    for _ in range(2):
        await queue.claim("w1", 60)
    assert await queue.held("w1") == {kept.job_id, deleted.job_id}
    await catalog.delete(deleted.key)
    assert await queue.held("w1") == {kept.job_id}
    clock.time += timedelta(seconds=61)
    await queue.claim("w2", 60)
    assert await queue.held("w1") == set()


async def test_an_unfinished_container_is_one_for_each_tenant_and_digest(database: Database) -> None:
    partials = SqlPartials(database, SettableClock())
    assert await partials.get("acme", DIGEST) is None
    await partials.put(partial("first"))
    await partials.put(partial("rivals", "rival"))
    await partials.put(partial("second"))
    assert await partials.get("acme", DIGEST) == partial("second")
    await partials.drop(partial("first"))  # its writer comes late
    assert await partials.get("acme", DIGEST) == partial("second")
    await partials.drop(partial("second"))
    assert await partials.get("acme", DIGEST) is None
    assert await partials.get("rival", DIGEST) == partial("rivals", "rival")


async def test_partial_containers_are_kept_for_their_import_and_a_day_at_most(
    database: Database,
) -> None:
    clock, group = SettableClock(), a_group()
    collection, partials = SqlCollection(database, clock), SqlPartials(database, clock)
    await group_catalog(database).create(created(group), None)
    await SqlBlobPins(database).pin(group.job_id, "acme", [DIGEST])
    for record in (partial("mine"), partial("unpinned", "rival")):
        await partials.put(record)
    assert await collection.partials() == {"object-mine"}
    assert await partials.get("rival", DIGEST) is None
    clock.time += MAX_AGE + timedelta(seconds=1)
    assert await collection.partials() == set()
    await partials.put(partial("mine"))
    await group_catalog(database).delete(group.key)
    assert await collection.partials() == set()
