import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from auth.ports import AuditEvent
from registry.audit.types import RegistryEventType
from registry.catalog.engine.database import Database, SystemClock
from registry.catalog.events import SqlEventLog
from registry.catalog.instances import SqlInstances
from registry.catalog.jobs import SqlJobQueue
from registry.catalog.organizations import SqlOrganizationDirectory
from registry.catalog.webhooks import SqlWebhooks
from registry.model.groups import Group, GroupStatus
from registry.model.instances import InstanceState, KnownBy, state_event
from registry.model.organizations import Organization
from registry.model.webhooks import SealedSecret, Webhook
from tests.integration.catalog.test_catalog import a_group, an_image
from tests.support.catalogs import group_catalog
from tests.support.groups import created, updated

NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def deploying(database: Database) -> Group:
    catalog, queue = group_catalog(database), SqlJobQueue(database, SystemClock())
    group = replace(a_group(), started=True)
    await catalog.create(created(group), None)
    job = await queue.claim("worker", 60)
    assert job is not None
    assert await queue.succeed(job, "worker", an_image())
    found = await catalog.get(group.key)
    assert found is not None
    assert found.status is GroupStatus.DEPLOYING
    return found


async def test_of_many_that_advance_an_instance_one_does_and_the_group_runs(database: Database) -> None:
    group, instances = await deploying(database), SqlInstances(database, SystemClock())
    instance = await instances.designate(group, "pc-1", 1, "t1")
    after = replace(instance, state=InstanceState.CREATING, known_by=KnownBy.DELIVERED)
    event = partial(state_event, group)
    done = await asyncio.gather(*(instances.advance(group, instance, after, event) for _ in range(4)))
    assert sum(each is not None for each in done) == 1
    told = [stored.type for stored in await SqlEventLog(database, SystemClock()).page()]
    assert told == ["group.created", "group.imported", "instance.creating", "group.running"]
    found = await group_catalog(database).get(group.key)
    assert found is not None
    assert found.status is GroupStatus.RUNNING
    assert await instances.counts([group.id, "other"]) == {group.id: {InstanceState.CREATING: 1}}
    assert [each.id for _, each in await instances.watched(10)] == [instance.id]
    await instances.unwatch(group, instance, ["t1"])
    assert await instances.watched(10) == []


async def test_a_node_that_is_designated_many_times_at_once_is_one_instance(database: Database) -> None:
    group, instances = await deploying(database), SqlInstances(database, SystemClock())
    made = await asyncio.gather(*(instances.designate(group, "pc-1", 1, f"t{n}") for n in range(5)))
    assert len({instance.id for instance in made}) == 1
    assert sorted(await instances.tokens(made[0].id)) == [f"t{n}" for n in range(5)]
    ((owner, waiting),) = await instances.watched(10)
    assert (owner.key, waiting.id) == (group.key, made[0].id)
    assert await instances.free_all(group) == 1
    assert await instances.tokens(made[0].id) == []


async def test_a_change_of_a_group_that_has_changed_since_writes_nothing(database: Database) -> None:
    group, catalog = await deploying(database), group_catalog(database)
    changed = replace(group, revision=2, spec={"replicas": 9})
    done = await asyncio.gather(*(catalog.change(group, updated(changed)) for _ in range(3)))
    assert sorted(done) == [False, False, True]
    assert await catalog.change(changed, updated(replace(changed, job_id="another", version=2)), b"key")
    job = await SqlJobQueue(database, SystemClock()).claim("worker", 60)
    assert job is not None
    assert (job.id, job.version, job.credential_key) == ("another", 2, b"key")


async def test_every_event_is_put_into_the_outbox_once(database: Database) -> None:
    clock = SystemClock()
    await SqlOrganizationDirectory(database).add(Organization("acme", NOW))
    events, outbox = SqlEventLog(database, clock), SqlWebhooks(database, clock)
    await events.record(AuditEvent(RegistryEventType.GROUP_CREATED, "acme"))
    webhook = Webhook("hook-1", "acme", "https://example.com/", ("group.*",), NOW)
    await outbox.add(
        webhook,
        SealedSecret("hook", "kek", b"wrapped"),
        AuditEvent(RegistryEventType.WEBHOOK_CREATED, "acme"),
        limit=1,
    )
    for n in range(30):
        await events.record(AuditEvent(RegistryEventType.GROUP_IMPORTED, "acme", detail={"n": n}))
    await asyncio.gather(*(outbox.collect(7) for _ in range(10)))
    while await outbox.collect(7):
        pass
    claimed = await asyncio.gather(*(outbox.claim(20, 60) for _ in range(3)))
    ids = [delivery.message_id for some in claimed for delivery in some]
    assert len(ids) == len(set(ids)) == 30
    first = claimed[0][0] if claimed[0] else claimed[1][0]
    assert (first.webhook.url, first.secret.wrapped, first.attempt) == (webhook.url, b"wrapped", 1)
    await outbox.delivered(first)
    await outbox.failed(first, "no", retry_s=None, disable_after=timedelta(0))
    given_up = await outbox.get("acme", "hook-1")
    assert given_up is not None
    assert (given_up.disabled_at is not None, given_up.last_failure) == (True, "no")
