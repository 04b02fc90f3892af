"""SaladCloud's published SDK, imported past the deprecations in its own sources."""

import warnings

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
    "ApiError",
    "ContainerConfiguration",
    "ContainerGroup",
    "ContainerGroupCreationRequest",
    "ContainerGroupInstance",
    "ContainerGroupInstancePatch",
    "ContainerGroupPatch",
    "ContainerRegistryAuthentication",
    "ContainerRegistryAuthenticationBasic",
    "ContainerRegistryAuthenticationDockerHub",
    "ContainerRegistryAuthenticationGcpGar",
    "ContainerRegistryAuthenticationGcpGcr",
    "CreateContainerResourceRequirements",
    "ProblemDetails",
    "SaladCloudSdk",
    "SaladCloudSdkAsync",
    "UpdateContainer",
]
