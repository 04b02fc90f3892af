"""SaladCloud's published SDK, both its clients, with nothing changed but the base URL."""

import asyncio
import time
from collections.abc import Awaitable

import pytest

from tests.support import images
from tests.support.crisper import PROJECT, CrisperServer, Organization, unique
from tests.support.salad_sdk import (
    ApiError,
    ContainerConfiguration,
    ContainerGroup,
    ContainerGroupCreationRequest,
    ContainerGroupsServiceAsync,
    ContainerRegistryAuthentication,
    ContainerRegistryAuthenticationBasic,
    CreateContainerResourceRequirements,
    ProblemDetails,
    SaladCloudSdk,
    SaladCloudSdkAsync,
)
from tests.support.upstream import Upstream

SETTLE_TIMEOUT_S = 60
# The SDK checks enumerations against their values and hands them back as plain strings.
PENDING, STOPPED = "pending", "stopped"


@pytest.fixture
def creation(upstream: Upstream) -> ContainerGroupCreationRequest:
    authentication = ContainerRegistryAuthentication(
        basic=ContainerRegistryAuthenticationBasic(username=upstream.username, password=upstream.password)
    )
    container = ContainerConfiguration(
        image=upstream.reference(images.runnable()),
        resources=CreateContainerResourceRequirements(cpu=1, memory=1024),
        registry_authentication=authentication,
        command=["/bin/sh", "-c", "cat /etc/greeting"],
        environment_variables={"GREETING": "hello"},
    )
    return ContainerGroupCreationRequest(
        name=unique("sdk"),
        display_name="Made by the SDK",
        container=container,
        autostart_policy=False,
        replicas=2,
        restart_policy="never",
    )


def assert_created(made: ContainerGroup, asked: ContainerGroupCreationRequest) -> None:
    assert made.name == asked.name
    assert made.display_name == "Made by the SDK"
    assert made.container.image == asked.container.image
    assert made.replicas == 2
    assert made.version == 1
    assert made.current_state.status == PENDING


def assert_imported(group: ContainerGroup) -> None:
    assert group.current_state.status == STOPPED, group.current_state.description
    assert group.container.hash == images.runnable().digest
    assert group.container.environment_variables == {"GREETING": "hello"}
    assert not hasattr(group.container, "registry_authentication")


def test_the_synchronous_client_creates_gets_lists_and_deletes(
    crisper: CrisperServer, organization: Organization, creation: ContainerGroupCreationRequest
) -> None:
    sdk = SaladCloudSdk(api_key=organization.api_key, base_url=f"{crisper.url}/api/public", timeout=20_000)
    groups, place = sdk.container_groups, (organization.name, PROJECT)

    assert_created(groups.create_container_group(creation, *place), creation)
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while (group := groups.get_container_group(*place, creation.name)).current_state.status == PENDING:
        assert time.monotonic() < deadline, group.current_state.description
        time.sleep(0.1)
    assert_imported(group)
    assert creation.name in [listed.name for listed in groups.list_container_groups(*place).items]

    groups.delete_container_group(*place, creation.name)
    with pytest.raises(ProblemDetails) as gone:
        groups.get_container_group(*place, creation.name)
    assert gone.value.status == 404
    assert creation.name not in [listed.name for listed in groups.list_container_groups(*place).items]


async def test_the_asynchronous_client_creates_gets_lists_and_deletes(
    crisper: CrisperServer, organization: Organization, creation: ContainerGroupCreationRequest
) -> None:
    sdk = SaladCloudSdkAsync(base_url=f"{crisper.url}/api/public")
    sdk.set_api_key(organization.api_key)  # its constructor drops the key that it is given
    groups, place = sdk.container_groups, (organization.name, PROJECT)

    assert_created(await groups.create_container_group(creation, *place), creation)
    assert_imported(await _settled(groups, *place, creation.name))
    assert creation.name in [listed.name for listed in (await groups.list_container_groups(*place)).items]

    await groups.delete_container_group(*place, creation.name)
    assert await _status_of(groups.get_container_group(*place, creation.name)) == 404


async def _settled(groups: ContainerGroupsServiceAsync, *place: str) -> ContainerGroup:
    async with asyncio.timeout(SETTLE_TIMEOUT_S):
        group = await groups.get_container_group(*place)
        while group.current_state.status == PENDING:
            await asyncio.sleep(0.1)
            group = await groups.get_container_group(*place)
        return group


async def _status_of(call: Awaitable[ContainerGroup]) -> int:
    with pytest.raises(ProblemDetails) as problem:
        await call
    return int(problem.value.status)


def test_a_wrong_key_is_refused(crisper: CrisperServer, organization: Organization) -> None:
    sdk = SaladCloudSdk(api_key="wrong", base_url=f"{crisper.url}/api/public", timeout=20_000)
    with pytest.raises(ApiError) as refused:
        sdk.container_groups.list_container_groups(organization.name, PROJECT)
    assert refused.value.status in {401, 403}
