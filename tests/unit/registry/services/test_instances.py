from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from auth.actor import OPERATOR_KEY, acting_as
from auth.records import BlobProgress, SessionView, TokenState, TokenView
from registry.errors import NotFoundError
from registry.model.groups import Group, GroupKey, GroupStatus
from registry.model.images import ContentKind, ImageContent, StoredImage
from registry.model.instances import Instance, InstanceState, KnownBy
from registry.model.pulls import QUIET
from registry.services.views import NewGroup
from storage.digest import Digest
from tests.unit.registry.services.fakes import World
from tests.unit.registry.services.test_changes import end_import, image

KEY = GroupKey("acme-corp", "dev-env", "mandelbrot")
STARTED = NewGroup(image="registry.example/app:1", autostart=True, spec={"replicas": 3})
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def a_token(token_id: str, state: TokenState, delivered: int | None = None) -> TokenView:
    """A token for an image of 100 bytes, with a session where bytes were delivered."""
    blobs = {"layer": BlobProgress(100, delivered or 0)}
    session = SessionView("sid", NOW, NOW, NOW, delivered or 0, blobs, 0, 1)
    return TokenView(
        token_id=token_id,
        state=state,
        node_id="node-1",
        organization="acme-corp",
        group_id="group",
        repository=KEY.repository,
        image_digest="sha256:00",
        image_size=100,
        minted_at=NOW,
        expires_at=NOW,
        read_at=NOW,
        session=None if delivered is None else session,
    )


async def designated(world: World, node_id: str = "node-1", jti: str = "t1") -> tuple[Group, Instance]:
    """A started group whose image is stored, and a node with a fresh token for it."""
    if await world.catalog.get(KEY) is None:
        await world.groups.create(KEY, STARTED)
        await end_import(world)
    group = (await world.groups.get(KEY)).group
    world.tokens.views[jti] = a_token(jti, TokenState.MINTED)
    return group, await world.designations.designate(group, node_id, group.version, jti)


async def told(world: World) -> list[str]:
    page = await world.events.page(organization="acme-corp")
    return [stored.type for stored in page if stored.type.startswith(("instance", "group.run"))]


async def test_an_instance_follows_its_pull_and_the_first_starts_the_group(world: World) -> None:
    await designated(world)
    seen = []
    for view in (
        a_token("t1", TokenState.MINTED),
        a_token("t1", TokenState.ACTIVE, 0),
        a_token("t1", TokenState.ACTIVE, 42),
        a_token("t1", TokenState.ACTIVE, 100),
    ):
        world.tokens.views["t1"] = view
        (shown,) = await world.instances.list(KEY)
        seen.append((shown.instance.state.value, shown.progress))
    assert seen == [("allocating", None), ("downloading", 0.0), ("downloading", 42.0), ("creating", None)]
    group = await world.groups.get(KEY)
    assert group.group.status is GroupStatus.RUNNING
    assert group.counts == {InstanceState.CREATING: 1}
    assert await told(world) == ["instance.downloading", "instance.creating", "group.running"]


async def test_who_looks_at_an_instance_has_not_caused_what_its_node_did(world: World) -> None:
    await designated(world)
    with acting_as(OPERATOR_KEY):
        for view in (a_token("t1", TokenState.ACTIVE, 0), a_token("t1", TokenState.ACTIVE, 100)):
            world.tokens.views["t1"] = view
            (shown,) = await world.instances.list(KEY)
        await world.instances.recreate(KEY, shown.instance.id)
    actors = {each.type: each.actor for each in await world.events.page(organization="acme-corp")}
    observed = ("instance.downloading", "instance.creating", "group.running")
    assert [actors[each] for each in observed] == [None] * 3
    assert actors["instance.recreated"] == OPERATOR_KEY


async def test_what_an_instance_has_come_to_outlives_its_token(world: World) -> None:
    await designated(world)
    world.tokens.views["t1"] = a_token("t1", TokenState.DONE, 40)
    await world.instances.sweep()
    del world.tokens.views["t1"]
    (shown,) = await world.instances.list(KEY)
    assert shown.instance.state is InstanceState.CREATING
    assert (await world.groups.get(KEY)).group.status is GroupStatus.RUNNING


@pytest.mark.parametrize("state", [TokenState.EXPIRED, TokenState.REVOKED, None])
async def test_a_token_that_ends_without_a_pull_frees_its_node(
    world: World, state: TokenState | None
) -> None:
    await designated(world)
    if state is None:
        del world.tokens.views["t1"]
    else:
        world.tokens.views["t1"] = a_token("t1", state)
    await world.instances.sweep()
    assert await world.instances.list(KEY) == []
    assert await told(world) == ["instance.lapsed"]
    assert (await world.groups.get(KEY)).group.status is GroupStatus.DEPLOYING


async def test_of_two_refreshes_both_show_the_stored_state(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await designated(world)
    world.tokens.views["t1"] = a_token("t1", TokenState.ACTIVE, 40)
    show, others = world.tokens.show, [world.instances.sweep()]

    async def show_after_a_sweep(token_id: str) -> TokenView:
        seen = await show(token_id)
        while others:
            await others.pop()
        return seen

    monkeypatch.setattr(world.tokens, "show", show_after_a_sweep)
    (shown,) = await world.instances.list(KEY)
    assert shown.instance.state is InstanceState.DOWNLOADING
    assert await told(world) == ["instance.downloading"]


async def test_a_refresh_in_the_middle_of_a_reallocation_does_not_fail_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, instance = await designated(world)
    revoke = world.tokens.revoke

    async def revoke_and_sweep(token_id: str) -> TokenView:
        await revoke(token_id)
        world.tokens.views[token_id] = a_token(token_id, TokenState.REVOKED)
        await world.instances.sweep()
        return world.tokens.views[token_id]

    monkeypatch.setattr(world.tokens, "revoke", revoke_and_sweep)
    await world.instances.reallocate(KEY, instance.id)
    assert await world.instances.list(KEY) == []
    assert await told(world) == ["instance.lapsed", "instance.reallocated"]


@pytest.mark.parametrize("state", [InstanceState.CREATING, InstanceState.RUNNING, InstanceState.STOPPING])
async def test_minting_again_never_takes_an_instance_back(world: World, state: InstanceState) -> None:
    _, first = await designated(world)
    await world.instances.report(first.id, KEY, state)
    for jti in ("t2", "t3"):
        _, again = await designated(world, jti=jti)
        await world.instances.sweep()
        assert (again.id, again.state) == (first.id, state)
    world.tokens.views["t2"] = a_token("t2", TokenState.ACTIVE, 20)
    world.tokens.views["t3"] = a_token("t3", TokenState.EXPIRED)
    await world.instances.sweep()
    (shown,) = await world.instances.list(KEY)
    assert (shown.instance.state, shown.progress) == (state, None)


async def test_reallocation_revokes_every_token_of_the_node_and_frees_it(world: World) -> None:
    await designated(world)
    _, instance = await designated(world, jti="t2")
    other = (await designated(world, "node-2", "t3"))[1]
    await world.instances.reallocate(KEY, instance.id)
    assert [world.tokens.views[name].state for name in ("t1", "t2", "t3")] == [
        TokenState.REVOKED,
        TokenState.REVOKED,
        TokenState.MINTED,
    ]
    assert [view.instance.id for view in await world.instances.list(KEY)] == [other.id]
    with pytest.raises(NotFoundError):
        await world.instances.reallocate(KEY, instance.id)
    assert await told(world) == ["instance.reallocated"]


@pytest.mark.parametrize("method", ["recreate", "restart"])
async def test_beginning_again_keeps_the_node_and_its_image(world: World, method: str) -> None:
    _, instance = await designated(world)
    world.tokens.views["t1"] = a_token("t1", TokenState.DONE)
    await world.instances.sweep()
    running = await world.instances.report(instance.id, KEY, InstanceState.RUNNING)
    assert running.instance.state is InstanceState.RUNNING
    await getattr(world.instances, method)(KEY, instance.id)
    (shown,) = await world.instances.list(KEY)
    assert shown.instance.state is InstanceState.CREATING
    assert shown.instance.id == instance.id
    assert world.tokens.views["t1"].state is TokenState.DONE


async def test_beginning_again_does_not_disturb_a_pull(world: World) -> None:
    _, instance = await designated(world)
    world.tokens.views["t1"] = a_token("t1", TokenState.ACTIVE, 42)
    await world.instances.sweep()
    await world.instances.restart(KEY, instance.id)
    (shown,) = await world.instances.list(KEY)
    assert (shown.instance.state, shown.progress) == (InstanceState.DOWNLOADING, 42.0)
    assert "instance.restarted" in await told(world)


async def test_stopping_a_group_ends_every_designation(world: World) -> None:
    await designated(world)
    await designated(world, "node-2", "t2")
    await world.groups.stop(KEY)
    assert world.journal[-1] == "dismiss mandelbrot"
    assert await world.instances.list(KEY) == []
    assert (await world.groups.get(KEY)).group.status is GroupStatus.STOPPED


async def test_an_old_versions_instance_does_not_make_a_new_version_run(world: World) -> None:
    await designated(world)
    await world.groups.update(KEY, image("app:2"))
    await end_import(world)
    world.tokens.views["t1"] = a_token("t1", TokenState.DONE)
    await world.instances.sweep()
    assert (await world.groups.get(KEY)).group.status is GroupStatus.DEPLOYING
    await designated(world, "node-2", "t2")
    world.tokens.views["t2"] = a_token("t2", TokenState.DONE)
    await world.instances.sweep()
    assert (await world.groups.get(KEY)).group.status is GroupStatus.RUNNING


async def test_a_request_takes_quiet_back_and_with_it_the_group(world: World) -> None:
    await designated(world)
    config, layer = Digest.parse(f"sha256:{'a' * 64}"), Digest.parse(f"sha256:{'b' * 64}")
    kinds = {config: ContentKind.CONFIG, layer: ContentKind.LAYER}
    contents = tuple(ImageContent(digest, kind, "", 50) for digest, kind in kinds.items())
    world.images["sha256:00"] = StoredImage(config, config, "linux/amd64", contents, 100)
    got, partly = BlobProgress(50, 50, requested=True, reached_end=True), BlobProgress(50, 9, requested=True)

    async def seen(progress: BlobProgress, rest: timedelta) -> tuple[str, str | None, str]:
        blobs = {"a" * 24: got, "b" * 24: progress}
        session = SessionView("sid", NOW, NOW - rest, NOW, 0, blobs, 0, 1)
        world.tokens.views["t1"] = replace(a_token("t1", TokenState.ACTIVE, 0), session=session)
        await world.instances.sweep()
        (shown,) = await world.instances.list(KEY)
        group = (await world.groups.get(KEY)).group
        return shown.instance.state.value, shown.instance.known_by, group.status.value

    assert await seen(BlobProgress(50, 0), QUIET) == ("creating", "quiet", "running")
    assert await seen(BlobProgress(50, 0), timedelta(0)) == ("downloading", None, "deploying")
    assert await seen(partly, QUIET) == ("downloading", None, "deploying")
    assert await seen(got, timedelta(0)) == ("creating", "delivered", "running")
    assert await told(world) == [
        "instance.creating",
        "group.running",
        "instance.downloading",
        "instance.creating",
        "group.running",
    ]


async def test_a_report_during_an_update_is_about_the_newer_version(world: World) -> None:
    _, first = await designated(world)
    await world.instances.report(first.id, KEY, InstanceState.RUNNING)
    await world.groups.update(KEY, image("app:2"))
    await end_import(world)
    await designated(world, jti="t2")
    world.tokens.views["t2"] = a_token("t2", TokenState.ACTIVE, 42)
    (shown,) = await world.instances.list(KEY)
    assert (shown.instance.version, shown.instance.state) == (1, InstanceState.RUNNING)
    assert shown.newer is not None
    assert (shown.newer.version, shown.newer.status.percent) == (2, 42.0)
    reported = await world.instances.report(first.id, KEY, InstanceState.RUNNING)
    assert (reported.instance.version, reported.instance.token_id) == (2, "t2")
    assert (await world.groups.get(KEY)).group.status is GroupStatus.RUNNING


async def test_a_report_counts_although_the_token_has_expired(world: World) -> None:
    _, instance = await designated(world)
    world.tokens.views.clear()
    reported = await world.instances.report(instance.id, KEY, InstanceState.RUNNING)
    assert (reported.instance.state, reported.instance.known_by) == (InstanceState.RUNNING, KnownBy.REPORTED)


async def test_the_deletion_cost_is_kept_and_shown(world: World) -> None:
    _, instance = await designated(world)
    view = await world.instances.set_deletion_cost(KEY, instance.id, 7)
    assert view.instance == replace(instance, deletion_cost=7)


async def test_another_groups_instance_is_not_found(world: World) -> None:
    _, instance = await designated(world)
    await world.groups.create(replace(KEY, name="other"), STARTED)
    with pytest.raises(NotFoundError):
        await world.instances.get(replace(KEY, name="other"), instance.id)
