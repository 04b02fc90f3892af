import asyncio
from dataclasses import replace

import pytest

from auth.errors import LedgerUnavailableError
from registry.errors import ConflictError, InvalidInputError, NotFoundError
from registry.model.groups import Group, GroupKey, GroupStatus, GroupTransition
from registry.model.imports import Progress, Stage
from registry.services.views import NewGroup
from tests.unit.registry.services.fakes import JournalledCatalog, World

KEY = GroupKey("acme-corp", "dev-env", "mandelbrot")
PUBLIC = NewGroup(image="registry.example/app:1", autostart=False, spec={"replicas": 3})
PRIVATE = replace(PUBLIC, registry_authentication={"basic": {"username": "ann", "password": "geheim"}})


async def test_a_new_group_is_pending_at_version_one_and_pulling(world: World) -> None:
    view = await world.groups.create(KEY, PUBLIC)
    assert view.description == "pulling"
    assert view.group.status is GroupStatus.PENDING
    assert view.group.version == 1
    assert (await world.groups.get(KEY)).group == view.group


async def test_the_credential_is_sealed_before_a_worker_can_see_the_job(world: World) -> None:
    view = await world.groups.create(KEY, PRIVATE)
    assert world.journal == ["seal", "insert", "nudge"]
    assert world.vault.held[view.group.job_id].password.reveal() == "geheim"


async def test_a_public_image_needs_no_vault(world: World) -> None:
    await world.groups.create(KEY, PUBLIC)
    assert world.journal == ["insert", "nudge"]


async def test_a_taken_name_is_refused_and_its_credential_forgotten(world: World) -> None:
    first = await world.groups.create(KEY, PRIVATE)
    with pytest.raises(ConflictError):
        await world.groups.create(KEY, replace(PRIVATE, autostart=True))
    assert list(world.vault.held) == [first.group.job_id]
    assert world.journal == ["seal", "insert", "nudge", "seal", "insert", "forget"]


async def test_a_create_that_is_cancelled_forgets_the_credential(world: World) -> None:
    class Endless(JournalledCatalog):
        async def create(self, created: GroupTransition, credential_key: bytes | None) -> None:  # noqa: ARG002 - never ends
            entered.set()
            await asyncio.Event().wait()

    entered = asyncio.Event()
    groups = world.over(Endless(world.catalog._database, world.journal))
    task = asyncio.create_task(groups.create(KEY, PRIVATE))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not world.vault.held


async def test_an_invalid_reference_is_refused_by_field_and_nothing_stored(world: World) -> None:
    with pytest.raises(InvalidInputError) as caught:
        await world.groups.create(KEY, replace(PRIVATE, image="https://registry.example/app"))
    assert caught.value.fields == {
        "container.image": ["an image reference has no scheme: leave out https://"]
    }
    assert world.journal == []


async def test_credentials_that_cannot_be_used_are_refused_by_field(world: World) -> None:
    with pytest.raises(InvalidInputError) as caught:
        await world.groups.create(KEY, replace(PRIVATE, registry_authentication={"gcp_gcr": {}}))
    assert caught.value.fields == {"container.registry_authentication": ["give basic"]}
    assert world.journal == []


async def test_an_unknown_organization_has_no_groups_and_takes_none(world: World) -> None:
    with pytest.raises(NotFoundError):
        await world.groups.create(replace(KEY, organization="nobody"), PUBLIC)
    with pytest.raises(NotFoundError):
        await world.groups.list("nobody", "dev-env")


async def test_progress_is_told_only_while_the_import_runs(world: World) -> None:
    view = await world.groups.create(KEY, PUBLIC)
    await world.board.put(view.group.job_id, Progress(Stage.PULLING, 3, 7, 41, 100))
    assert (await world.groups.get(KEY)).description == "pulling: 3 of 7 layers, 41 %"
    assert [v.description for v in (await world.groups.list("acme-corp", "dev-env")).views] == [
        "pulling: 3 of 7 layers, 41 %"
    ]


async def test_groups_are_listed_by_project_oldest_first(world: World) -> None:
    for name in ("bb", "aa"):
        await world.groups.create(replace(KEY, name=name), PUBLIC)
    await world.groups.create(replace(KEY, project="live"), PUBLIC)
    await world.groups.create(replace(KEY, organization="other-corp"), PUBLIC)
    names = [view.group.key.name for view in (await world.groups.list("acme-corp", "dev-env")).views]
    assert names == ["bb", "aa"]


async def test_deletion_revokes_before_and_after_and_forgets_the_credential(
    world: World,
) -> None:
    view = await world.groups.create(KEY, PRIVATE)
    world.journal.clear()
    await world.groups.delete(KEY)
    assert world.journal == ["revoke", "remove", "revoke", "forget"]
    assert world.revoked == [view.group.id] * 2
    assert not world.vault.held
    with pytest.raises(NotFoundError):
        await world.groups.get(KEY)


async def test_a_crash_before_the_removal_leaves_a_group_without_tokens(world: World) -> None:
    view = await world.groups.create(KEY, PUBLIC)
    world.catalog.failure = RuntimeError("the machine went down")
    with pytest.raises(RuntimeError):
        await world.groups.delete(KEY)
    assert world.revoked == [view.group.id]
    world.catalog.failure = None
    await world.groups.delete(KEY)
    assert await world.catalog.get(KEY) is None


async def test_a_ledger_that_does_not_answer_keeps_the_group(world: World) -> None:
    await world.groups.create(KEY, PUBLIC)
    world.revocations_allowed = 0
    with pytest.raises(LedgerUnavailableError):
        await world.groups.delete(KEY)
    assert await world.catalog.get(KEY) is not None


async def test_a_ledger_lost_midway_is_reported_and_the_deletion_recorded(
    world: World,
) -> None:
    await world.groups.create(KEY, PUBLIC)
    world.revocations_allowed = 1
    with pytest.raises(LedgerUnavailableError):
        await world.groups.delete(KEY)
    assert [stored.type for stored in await world.events.page()] == ["group.created", "group.deleted"]


async def test_the_group_that_took_the_name_meanwhile_is_the_one_revoked(world: World) -> None:
    class Overtaken(JournalledCatalog):
        async def delete(self, key: GroupKey, *, source: str | None = None) -> Group | None:
            await super().delete(key, source=source)
            await world.groups.create(key, PUBLIC)
            return await super().delete(key, source=source)

    await world.groups.create(KEY, PUBLIC)
    await world.over(Overtaken(world.catalog._database, world.journal)).delete(KEY)
    first, second = world.revoked
    assert first != second


async def test_deleting_what_is_not_there_is_said_and_revokes_nothing(world: World) -> None:
    with pytest.raises(NotFoundError):
        await world.groups.delete(KEY)
    assert world.journal == []


async def test_the_audit_trail_has_creation_and_deletion_but_no_credential(world: World) -> None:
    await world.groups.create(KEY, PRIVATE, source="192.0.2.7")
    await world.groups.delete(KEY, source="192.0.2.7")
    trail = await world.events.page(organization="acme-corp")
    assert [event.type for event in trail] == ["group.created", "group.deleted"]
    assert trail[0].detail["image"] == PUBLIC.image
    assert trail[0].source == "192.0.2.7"
    assert "geheim" not in repr(trail)


def test_a_request_does_not_show_its_credentials() -> None:
    assert "geheim" not in repr(PRIVATE)
