"""SaladCloud's published SDK, imported past the deprecations in its own sources; both its clients as one."""

import asyncio
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

from tests.support.crisper import unique

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from salad_cloud_sdk import SaladCloudSdk, SaladCloudSdkAsync
    from salad_cloud_sdk.models import (
        ContainerConfiguration,
        ContainerGroup,
        ContainerGroupCreationRequest,
        ContainerGroupInstance,
        ContainerGroupInstancePatch,
        ContainerGroupPatch,
        ContainerRegistryAuthentication,
        ContainerRegistryAuthenticationAwsEcr,
        ContainerRegistryAuthenticationBasic,
        ContainerRegistryAuthenticationDockerHub,
        ContainerRegistryAuthenticationGcpGar,
        ContainerRegistryAuthenticationGcpGcr,
        CreateContainerResourceRequirements,
        ProblemDetails,
        UpdateContainer,
    )
    from salad_cloud_sdk.net.transport.api_error import ApiError

__all__ = [
    "CLIENTS",
    "ApiError",
    "Call",
    "ContainerConfiguration",
    "ContainerGroup",
    "ContainerGroupCreationRequest",
    "ContainerGroupInstance",
    "ContainerGroupInstancePatch",
    "ContainerGroupPatch",
    "ContainerRegistryAuthentication",
    "ContainerRegistryAuthenticationAwsEcr",
    "ContainerRegistryAuthenticationBasic",
    "ContainerRegistryAuthenticationDockerHub",
    "ContainerRegistryAuthenticationGcpGar",
    "ContainerRegistryAuthenticationGcpGcr",
    "CreateContainerResourceRequirements",
    "ProblemDetails",
    "SaladCloudSdk",
    "SaladCloudSdkAsync",
    "UpdateContainer",
    "asking_for",
    "calling",
    "settled",
]

CLIENTS = ("sync", "async")
SETTLE_TIMEOUT_S = 60

Call = Callable[..., Awaitable[Any]]


def calling(client: str, server_url: str, api_key: str) -> Call:
    """Return a function that calls a method of the SDK's container groups by name, with one of `CLIENTS`."""
    base_url = f"{server_url}/api/public"
    if client == "sync":
        sync = SaladCloudSdk(api_key=api_key, base_url=base_url, timeout=20_000)
        return lambda method, *args: asyncio.to_thread(getattr(sync.container_groups, method), *args)
    asynchronous = SaladCloudSdkAsync(base_url=base_url)
    asynchronous.set_api_key(api_key)  # its constructor drops the key that it is given
    asynchronous.set_timeout(20_000)
    return lambda method, *args: getattr(asynchronous.container_groups, method)(*args)


def asking_for(image: str, credentials: ContainerRegistryAuthentication) -> ContainerGroupCreationRequest:
    """Write a request for a stopped group, named like no other."""
    container = ContainerConfiguration(
        image=image,
        resources=CreateContainerResourceRequirements(cpu=1, memory=1024),
        registry_authentication=credentials,
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


async def settled(call: Call, *place: str) -> ContainerGroup:
    """Wait until a group is no longer pending."""
    async with asyncio.timeout(SETTLE_TIMEOUT_S):
        group = await call("get_container_group", *place)
        while group.current_state.status == "pending":
            await asyncio.sleep(0.1)
            group = await call("get_container_group", *place)
        return group
