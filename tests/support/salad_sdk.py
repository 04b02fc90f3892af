"""SaladCloud's published SDK, imported past the deprecations in its own sources."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from salad_cloud_sdk import SaladCloudSdk, SaladCloudSdkAsync
    from salad_cloud_sdk.models import (
        ContainerConfiguration,
        ContainerGroup,
        ContainerGroupCreationRequest,
        ContainerRegistryAuthentication,
        ContainerRegistryAuthenticationBasic,
        CreateContainerResourceRequirements,
        ProblemDetails,
    )
    from salad_cloud_sdk.net.transport.api_error import ApiError
    from salad_cloud_sdk.services.async_.container_groups import ContainerGroupsServiceAsync

__all__ = [
    "ApiError",
    "ContainerConfiguration",
    "ContainerGroup",
    "ContainerGroupCreationRequest",
    "ContainerGroupsServiceAsync",
    "ContainerRegistryAuthentication",
    "ContainerRegistryAuthenticationBasic",
    "CreateContainerResourceRequirements",
    "ProblemDetails",
    "SaladCloudSdk",
    "SaladCloudSdkAsync",
]
