"""SaladCloud's published SDK, both its clients, with nothing but the base URL changed: a whole life."""

import asyncio
import json
from contextlib import closing

import pytest

from tests.support import images
from tests.support.crisper import PROJECT, CrisperServer, Node, Operator, Organization, PullToken
from tests.support.http import basic
from tests.support.pulling import Puller
from tests.support.salad_sdk import (
    CLIENTS,
    ApiError,
    Call,
    ContainerGroupInstance,
    ContainerGroupInstancePatch,
    ContainerGroupPatch,
    ContainerRegistryAuthentication,
    ContainerRegistryAuthenticationBasic,
    ProblemDetails,
    SaladCloudSdk,
    UpdateContainer,
    asking_for,
    calling,
    settled,
)
from tests.support.upstream import PASSWORD, USERNAME, Upstream

BASIC = ContainerRegistryAuthentication(
    basic=ContainerRegistryAuthenticationBasic(username=USERNAME, password=PASSWORD)
)


@pytest.fixture(params=CLIENTS)
def call(request: pytest.FixtureRequest, crisper: CrisperServer, organization: Organization) -> Call:
    return calling(request.param, crisper.url, organization.api_key)


async def only_instance(call: Call, *place: str) -> ContainerGroupInstance:
    (instance,) = (await call("list_container_group_instances", *place)).instances
    same = await call("get_container_group_instance", *place, instance.id_)
    assert same.id_ == instance.id_
    return instance


def redeem(crisper: CrisperServer, token: PullToken, node: Node) -> tuple[Puller, str, dict[str, str]]:
    """Open a token's session; return a client, the repository's path and the bearer's header."""
    repository = token.reference.split("/", 1)[1].split("@")[0].rsplit(":", 1)[0]
    puller = Puller(crisper.url)
    login = {"Authorization": basic(token.username, token.password(node))}
    _, answer = puller.get(f"/token?service=crisper&scope=repository:{repository}:pull", login)
    return puller, f"/v2/{repository}", {"Authorization": f"Bearer {json.loads(answer)['token']}"}


async def pull_watched(
    call: Call, crisper: CrisperServer, token: PullToken, node: Node, *place: str
) -> list[ContainerGroupInstance]:
    """Pull blob by blob; return the instance as it was before the first and after each."""
    puller, base, bearer = await asyncio.to_thread(redeem, crisper, token, node)
    with closing(puller):
        seen = [await only_instance(call, *place)]
        _, manifest = await asyncio.to_thread(puller.get, f"{base}/manifests/{token.digest}", bearer)
        for blob in [*json.loads(manifest)["layers"], json.loads(manifest)["config"]]:
            await asyncio.to_thread(puller.get, f"{base}/blobs/{blob['digest']}", bearer)
            seen.append(await only_instance(call, *place))
    return seen


async def act_on_instances(
    call: Call, operator: Operator, organization: Organization, instance_id: str, *place: str
) -> None:
    """Begin one instance again and price it; designate a second node, and reallocate it."""
    for method in ("recreate", "restart"):
        await call(f"{method}_container_group_instance", *place, instance_id)
    cost = ContainerGroupInstancePatch(deletion_cost=7)
    costly = await call("update_container_group_instance", cost, *place, instance_id)
    assert (costly.deletion_cost, costly.state) == (7, "creating")
    waiting = operator.mint(organization, place[-1], operator.create_node())
    found = (await call("list_container_group_instances", *place)).instances
    assert [instance.state for instance in found] == ["creating", "allocating"]
    await call("reallocate_container_group_instance", *place, found[1].id_)
    assert operator.token_state(waiting) == "revoked"
    assert (await only_instance(call, *place)).id_ == instance_id


async def test_a_group_lives_from_its_creation_to_its_deletion(
    call: Call, crisper: CrisperServer, operator: Operator, organization: Organization, upstream: Upstream
) -> None:
    first, second = images.random_layers(), images.runnable()
    asked = asking_for(upstream.reference(first), BASIC)
    place = (organization.name, PROJECT, asked.name)
    made = await call("create_container_group", asked, *place[:2])
    again = await call("create_container_group", asked, *place[:2])
    assert again.id_ == made.id_
    assert (await settled(call, *place)).current_state.status == "stopped"
    listed = await call("list_container_groups", *place[:2])
    assert asked.name in [group.name for group in listed.items]

    await call("start_container_group", *place)
    assert (await call("get_container_group", *place)).current_state.status == "deploying"

    node = operator.create_node()
    token = operator.mint(organization, asked.name, node)
    assert (await only_instance(call, *place)).state == "allocating"
    seen = await pull_watched(call, crisper, token, node, *place)
    assert {instance.state for instance in seen[:-1]} == {"downloading"}
    progress = [instance.pulling_progress for instance in seen[:-1]]
    assert progress[0] == 0
    assert progress == sorted(set(progress)), "it rises with every layer"
    assert seen[-1].state == "creating"
    running = await call("get_container_group", *place)
    assert running.current_state.status == "running"
    assert running.current_state.instance_status_counts.creating_count == 1

    await act_on_instances(call, operator, organization, seen[-1].id_, *place)
    older = operator.mint(organization, asked.name, node)
    container = UpdateContainer(image=upstream.reference(second), registry_authentication=BASIC)
    changed = await call("update_container_group", ContainerGroupPatch(container=container), *place)
    assert (changed.version, changed.current_state.status, changed.pending_change) == (2, "pending", True)
    updated = await settled(call, *place)
    assert (updated.container.hash, updated.current_state.status) == (second.digest, "deploying")
    with closing(Puller(crisper.url)) as puller:
        assert await asyncio.to_thread(puller.pull, older, node) > 0, "what was begun goes on"
    newer = operator.mint(organization, asked.name, node)
    assert newer.digest == second.digest
    assert (await only_instance(call, *place)).version == 1, "until the node has the newer image"
    scaled = await call("update_container_group", ContainerGroupPatch(replicas=5), *place)
    assert (scaled.replicas, scaled.version) == (5, 2)

    await call("stop_container_group", *place)
    assert operator.token_state(newer) == "revoked"
    stopped = await call("get_container_group", *place)
    assert stopped.current_state.status == "stopped"
    assert (await call("list_container_group_instances", *place)).instances == []

    await call("delete_container_group", *place)
    with pytest.raises(ProblemDetails) as gone:
        await call("get_container_group", *place)
    assert gone.value.status == 404


def test_a_wrong_key_is_refused(crisper: CrisperServer, organization: Organization) -> None:
    sdk = SaladCloudSdk(api_key="wrong", base_url=f"{crisper.url}/api/public", timeout=20_000)
    with pytest.raises(ApiError) as refused:
        sdk.container_groups.list_container_groups(organization.name, PROJECT)
    assert refused.value.status in {401, 403}
