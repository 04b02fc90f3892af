"""Quotas that the catalog counts, on both databases."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from auth.ports import AuditEvent
from registry.audit.types import RegistryEventType
from registry.catalog.engine.database import Database
from registry.catalog.groups import SqlGroupCatalog
from registry.catalog.import_quotas import SqlImportQuota
from registry.catalog.jobs import SqlJobQueue
from registry.catalog.organizations import SqlOrganizationDirectory
from registry.catalog.quotas import SqlQuotas
from registry.errors import NotFoundError, QuotaExceededError, StoreFailedError
from registry.model.groups import Group
from registry.model.organizations import Organization
from registry.model.quotas import Quotas
from tests.integration.catalog.test_catalog import SettableClock, a_group
from tests.support.catalogs import spec_cipher
from tests.support.groups import created

CHANGED = AuditEvent(RegistryEventType.QUOTAS_CHANGED, "acme")


@pytest.fixture
async def clock(database: Database) -> SettableClock:
    clock = SettableClock()
    for name in ("acme", "rival"):
        await SqlOrganizationDirectory(database).add(Organization(name, clock.now()))
    return clock


def group(name: str, replicas: int = 1, **spec: object) -> Group:
    return replace(a_group(name), spec={"replicas": replicas, **spec})


async def test_an_operator_sets_some_quotas_and_returns_to_the_default(
    database: Database, clock: SettableClock
) -> None:
    quotas = SqlQuotas(database, clock, Quotas(groups=5, streams=3))
    assert await quotas.of("acme") == Quotas(groups=5, streams=3)
    clock.time += timedelta(hours=1)
    await quotas.set("acme", {"groups": 7, "streams": 0}, CHANGED)
    await quotas.set("acme", {"streams": None}, CHANGED)
    report = await quotas.report("acme")
    assert (report.limits, report.overrides) == (Quotas(groups=7, streams=3), {"groups": 7})
    assert report.updated_at - report.created_at == timedelta(hours=1)
    assert await quotas.of("rival") == Quotas(groups=5, streams=3)
    for work in (quotas.report("nobody"), quotas.set("nobody", {"groups": 1}, CHANGED)):
        with pytest.raises(NotFoundError):
            await work


async def test_groups_that_are_created_at_once_do_not_exceed_a_quota_together(
    database: Database, clock: SettableClock
) -> None:
    quotas = SqlQuotas(database, clock, Quotas(groups=4))
    catalog = SqlGroupCatalog(database, clock, spec_cipher(database), quotas)
    made = await asyncio.gather(
        *(catalog.create(created(group(f"web-{n}")), None) for n in range(9)), return_exceptions=True
    )
    assert sum(each is None for each in made) == 4
    assert sum(isinstance(each, QuotaExceededError) for each in made) == 5


async def test_replicas_count_with_the_maximum_of_autoscaling_and_only_an_increase_is_refused(
    database: Database, clock: SettableClock
) -> None:
    quotas = SqlQuotas(database, clock, Quotas(replicas=10))
    catalog = SqlGroupCatalog(database, clock, spec_cipher(database), quotas)
    scaled = group("scaled", 1, queue_autoscaler={"max_replicas": 6})
    await catalog.create(created(scaled), None)
    await catalog.create(created(group("steady", 4)), None)
    assert (await quotas.report("acme")).usage.replicas == 10
    with pytest.raises(QuotaExceededError, match="replicas is 10 and uses 10"):
        await catalog.create(created(group("more", 1)), None)
    await catalog.create(created(group("none", 0)), None)
    await quotas.set("acme", {"replicas": 2}, CHANGED)
    less = scaled.update({"replicas": 3}, None, now=clock.now())
    assert await catalog.change(scaled, less)
    more = less.group.update({"replicas": 4}, None, now=clock.now())
    with pytest.raises(QuotaExceededError):
        await catalog.change(less.group, more)
    assert (await quotas.report("acme")).usage.replicas == 7


async def test_an_import_that_would_not_fit_into_the_stored_bytes_fails(
    database: Database, clock: SettableClock
) -> None:
    quotas = SqlQuotas(database, clock, Quotas(stored_bytes=100, imports=2))
    queue, imports = SqlJobQueue(database, clock, quotas), SqlImportQuota(database, clock, quotas)
    catalog = SqlGroupCatalog(database, clock, spec_cipher(database))
    for name in ("one", "two", "three"):
        await catalog.create(created(group(name)), None)
    first, second = [await queue.claim("worker", 60) for _ in range(2)]
    assert first is not None
    assert second is not None
    assert await queue.claim("worker", 60) is None  # two at a time
    await imports.charge(first, 60)
    with pytest.raises(StoreFailedError, match="delete groups"):
        await imports.charge(second, 60)
    await imports.charge(second, 40)
    assert (await quotas.report("acme")).usage.imports == 2
    await quotas.set("acme", {"imports": 0}, CHANGED)
    assert await queue.claim("worker", 60) is not None
