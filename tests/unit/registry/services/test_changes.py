import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from registry.catalog.jobs import SqlJobQueue
from registry.catalog.versions import MAX_VERSIONS_OF_IMAGE
from registry.errors import ConflictError, InvalidInputError, NotFoundError, PreconditionFailedError
from registry.model.groups import Group, GroupKey, GroupStatus, GroupTransition
from registry.model.images import ContentKind, ImageContent, StoredImage
from registry.services.views import GroupChange, NewGroup
from storage.digest import Digest
from tests.unit.registry.services.fakes import World

KEY = GroupKey("acme-corp", "dev-env", "mandelbrot")
PUBLIC = NewGroup(image="registry.example/app:1", autostart=False, spec={"replicas": 3})
PRIVATE = {"basic": {"username": "ann", "password": "geheim"}}


def amend(**values: object) -> GroupChange:
    return GroupChange(amend=lambda spec: {**spec, **values})


def unchanged(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    return spec


def image(name: str, *, pull: bool = False) -> GroupChange:
    return GroupChange(amend=unchanged, image=f"registry.example/{name}", pull=pull)


async def end_import(world: World, *, failing: bool = False) -> None:
    """Have the oldest waiting import end, with an image or without."""
    queue = SqlJobQueue(world.catalog._database, world.clock)
    job = await queue.claim("worker", 60)
    assert job is not None
    if failing:
        assert await queue.fail(job, "worker", "failed to pull", "there is no such tag")
        return
    digest = Digest.of(job.image.encode())
    layer = ImageContent(digest, ContentKind.LAYER, "application/vnd.oci.image.layer.v1.tar", 100)
    assert await queue.succeed(job, "worker", StoredImage(digest, digest, "linux/amd64", (layer,), 100))


async def stored(world: World, request: NewGroup = PUBLIC) -> Group:
    await world.groups.create(KEY, request)
    await end_import(world)
    return (await world.groups.get(KEY)).group


async def test_a_repeated_create_answers_the_group_that_stands_and_imports_once(world: World) -> None:
    first = await world.groups.create(KEY, replace(PUBLIC, registry_authentication=PRIVATE))
    again = await world.groups.create(KEY, replace(PUBLIC, registry_authentication=PRIVATE))
    assert again.group == first.group
    assert list(world.vault.held) == [first.group.job_id]
    assert world.journal.count("insert") == 1


async def test_creates_of_one_name_at_the_same_moment_make_one_group(world: World) -> None:
    views = await asyncio.gather(*(world.groups.create(KEY, PUBLIC) for _ in range(8)))
    assert len({view.group.id for view in views}) == 1


async def test_a_stopped_group_starts_and_stops_and_says_so_once(world: World) -> None:
    await stored(world)
    for _ in range(2):
        await world.groups.start(KEY)
    assert (await world.groups.get(KEY)).group.status is GroupStatus.DEPLOYING
    for _ in range(2):
        await world.groups.stop(KEY)
    assert (await world.groups.get(KEY)).group.status is GroupStatus.STOPPED
    told = [stored.type for stored in await world.events.page()]
    assert told == ["group.created", "group.imported", "group.started", "group.stopped"]


async def test_a_group_started_while_pending_deploys_when_its_image_is_there(world: World) -> None:
    await world.groups.create(KEY, PUBLIC)
    await world.groups.start(KEY)
    assert (await world.groups.get(KEY)).group.status is GroupStatus.PENDING
    await end_import(world)
    assert (await world.groups.get(KEY)).group.status is GroupStatus.DEPLOYING


async def test_a_group_that_would_start_by_itself_can_be_stopped_while_pending(world: World) -> None:
    await world.groups.create(KEY, replace(PUBLIC, autostart=True))
    await world.groups.stop(KEY)
    await end_import(world)
    assert (await world.groups.get(KEY)).group.status is GroupStatus.STOPPED


async def test_a_failed_group_is_not_started(world: World) -> None:
    await world.groups.create(KEY, PUBLIC)
    await end_import(world, failing=True)
    with pytest.raises(InvalidInputError, match="change its image"):
        await world.groups.start(KEY)
    view = await world.groups.get(KEY)
    assert view.group.status is GroupStatus.FAILED
    assert view.description == "failed to pull: there is no such tag"


async def test_a_change_of_the_spec_imports_nothing(world: World) -> None:
    before = await stored(world)
    view = await world.groups.update(KEY, amend(replicas=5))
    assert view.group.spec == {"replicas": 5}
    assert (view.group.version, view.group.status) == (before.version, before.status)
    assert view.group.revision == before.revision + 1


async def test_another_image_is_the_next_version_and_the_old_one_stays(
    world: World,
) -> None:
    before = await stored(world)
    view = await world.groups.update(KEY, replace(image("app:2"), registry_authentication=PRIVATE))
    assert (view.group.version, view.group.status) == (2, GroupStatus.PENDING)
    assert view.group.image_digest == before.image_digest
    assert world.vault.held[view.group.job_id].password.reveal() == "geheim"
    assert view.group.served_version == 1
    await end_import(world)
    after = (await world.groups.get(KEY)).group
    assert (after.status, after.image) == (GroupStatus.STOPPED, "registry.example/app:2")
    assert after.served_version == 2
    assert await world.catalog.tags(KEY.repository) == ["latest", "v1", "v2"]


async def test_a_running_group_deploys_again_with_its_new_image(world: World) -> None:
    await stored(world, replace(PUBLIC, autostart=True))
    await world.groups.update(KEY, image("app:2"))
    await end_import(world)
    assert (await world.groups.get(KEY)).group.status is GroupStatus.DEPLOYING


async def test_the_same_image_is_pulled_again_only_when_asked_or_after_a_failure(world: World) -> None:
    await stored(world)
    assert (await world.groups.update(KEY, image("app:1"))).group.version == 1
    assert (await world.groups.update(KEY, image("app:1", pull=True))).group.version == 2
    await end_import(world, failing=True)
    retried = await world.groups.update(KEY, image("app:1"))
    assert (retried.group.version, retried.group.status) == (2, GroupStatus.PENDING)


async def test_a_failed_update_leaves_the_old_version_to_its_nodes(world: World) -> None:
    await stored(world)
    await world.groups.update(KEY, image("app:2"))
    await end_import(world, failing=True)
    group = (await world.groups.get(KEY)).group
    assert (group.status, group.served_version) == (GroupStatus.STOPPED, 1)


async def test_versions_of_one_image_are_bounded_and_those_of_others_stay(world: World) -> None:
    group = await stored(world)
    await world.groups.update(KEY, image("app:2"))
    await end_import(world)
    for number in range(MAX_VERSIONS_OF_IMAGE + 5):
        await world.groups.update(KEY, amend(container={"command": [str(number)]}))
    numbers = await world.catalog.versions(group.id)
    newest = 2 + MAX_VERSIONS_OF_IMAGE + 5
    assert numbers == [*range(newest, newest - MAX_VERSIONS_OF_IMAGE, -1), 1]
    back = (await world.groups.roll_back(KEY, 1)).group
    assert (back.image, back.image_digest) == (group.image, group.image_digest)
    assert "container" not in back.spec or "command" not in back.spec["container"]
    with pytest.raises(InvalidInputError, match="no such version"):
        await world.groups.roll_back(KEY, 3)


async def test_a_rollback_forgets_the_credentials_of_the_import_that_it_ends(world: World) -> None:
    await stored(world)
    await world.groups.update(KEY, replace(image("app:2"), registry_authentication=PRIVATE))
    queue = SqlJobQueue(world.catalog._database, world.clock)
    running = await queue.claim("worker", 60)
    assert running is not None
    await world.groups.roll_back(KEY)
    assert world.vault.held == {}
    assert not await queue.heartbeat(running.id, "worker", 60)
    assert await queue.claim("worker", 60) is None


async def test_an_update_during_an_import_ends_that_import(world: World) -> None:
    await world.groups.create(KEY, replace(PUBLIC, registry_authentication=PRIVATE))
    queue = SqlJobQueue(world.catalog._database, world.clock)
    running = await queue.claim("worker", 60)
    assert running is not None
    view = await world.groups.update(KEY, image("app:2"))
    assert not await queue.heartbeat(running.id, "worker", 60)
    assert not await queue.fail(running, "worker", "failed to pull", "too late")
    assert (await world.groups.get(KEY)).group.status is GroupStatus.PENDING
    assert view.group.job_id != running.id
    assert world.vault.held == {}


async def test_an_update_of_what_has_changed_since_is_refused(world: World) -> None:
    await stored(world)
    read = await world.groups.get(KEY)
    await world.groups.update(KEY, amend(replicas=4), if_match={read.etag})
    with pytest.raises(PreconditionFailedError):
        await world.groups.update(KEY, amend(replicas=5), if_match={read.etag})
    assert (await world.groups.get(KEY)).group.spec == {"replicas": 4}


async def test_the_end_of_an_import_does_not_change_what_an_update_has_to_match(world: World) -> None:
    read = await world.groups.create(KEY, PUBLIC)
    await end_import(world)
    view = await world.groups.update(KEY, amend(replicas=4), if_match={read.etag})
    assert view.group.status is GroupStatus.STOPPED


async def test_updates_at_the_same_moment_all_count(world: World) -> None:
    await stored(world)
    changes = [amend(**{f"field-{n}": n}) for n in range(4)]
    await asyncio.gather(*(world.groups.update(KEY, change) for change in changes))
    assert (await world.groups.get(KEY)).group.spec == {"replicas": 3, **{f"field-{n}": n for n in range(4)}}


async def test_a_group_that_others_change_without_end_is_a_conflict(world: World) -> None:
    await stored(world)

    async def overtaken(before: Group, changed: GroupTransition, credential_key: bytes | None = None) -> bool:
        del before, changed, credential_key
        return False

    world.catalog.change = overtaken  # type: ignore[method-assign]
    with pytest.raises(ConflictError):
        await world.groups.update(KEY, amend(replicas=4))


async def test_groups_come_in_pages_that_neither_repeat_nor_miss_one(world: World) -> None:
    names = [f"group-{n}" for n in range(5)]
    for name in names:
        await world.groups.create(replace(KEY, name=name), PUBLIC)
    seen, after = [], None
    while True:
        page = await world.groups.list("acme-corp", "dev-env", after=after, limit=2)
        seen += [view.group.key.name for view in page.views]
        after = page.next_after
        if after is None:
            break
        await world.groups.delete(replace(KEY, name=seen[-1]))
    assert seen == names
    with pytest.raises(InvalidInputError):
        await world.groups.list("acme-corp", "dev-env", after="made up")


@pytest.mark.parametrize("method", ["start", "stop"])
async def test_what_is_not_there_is_neither_started_nor_stopped(world: World, method: str) -> None:
    with pytest.raises(NotFoundError):
        await getattr(world.groups, method)(KEY)
