"""SaladCloud's published SDK, unmodified, both its clients."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from salad_cloud_sdk import SaladCloudSdk, SaladCloudSdkAsync
from salad_cloud_sdk.models import (
    ContainerConfiguration,
    ContainerConfigurationLogging,
    ContainerGroup,
    ContainerGroupCreationRequest,
    ContainerGroupHttpProbeConfiguration,
    ContainerGroupLivenessProbe,
    ContainerGroupPatch,
    ContainerGroupProbeHttpHeader,
    ContainerLoggingConfigurationHttp2,
    ContainerRegistryAuthentication,
    ContainerRegistryAuthenticationBasic,
    CreateContainerGroupNetworking,
    CreateContainerResourceRequirements,
    ProblemDetails,
    QueueBasedAutoscalerConfiguration,
)
from salad_cloud_sdk.net.transport.api_error import ApiError

from registry.model.groups import GroupKey
from registry.model.imports import Progress, Stage
from tests.integration.public_api.conftest import API_KEYS, Service
from tests.support.group_documents import PATCHES, differing, documents, without_secrets

PLACE = ("acme-corp", "dev-env")
KEY = GroupKey(*PLACE, "mandelbrot")

Client = Callable[..., Awaitable[Any]]


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, service: Service) -> Client:
    """Call a method of the SDK's container groups by name."""
    key = API_KEYS["acme-corp"]
    if request.param == "sync":
        sync = SaladCloudSdk(api_key=key, base_url=service.base_url, timeout=10_000)
        return lambda method, *args: asyncio.to_thread(getattr(sync.container_groups, method), *args)
    asynchronous = asynchronous_client(service, key)
    return lambda method, *args: getattr(asynchronous.container_groups, method)(*args)


def asynchronous_client(service: Service, key: str) -> SaladCloudSdkAsync:
    sdk = SaladCloudSdkAsync(base_url=service.base_url)
    sdk.set_api_key(key)  # its constructor forgets the key and the timeout that it is given
    sdk.set_timeout(10_000)
    return sdk


def request_for(name: str, **container: object) -> ContainerGroupCreationRequest:
    resources = CreateContainerResourceRequirements(cpu=2, memory=4096, gpu_classes=[])
    return ContainerGroupCreationRequest(
        name=name,
        container=ContainerConfiguration(image="registry.example/app:1", resources=resources, **container),
        autostart_policy=False,
        replicas=3,
        restart_policy="always",
    )


def full_request(name: str) -> ContainerGroupCreationRequest:
    request = request_for(
        name,
        command=["serve", "--port", "8080"],
        environment_variables={"MODE": "live"},
        image_caching=True,
        priority="high",
        registry_authentication=ContainerRegistryAuthentication(
            basic=ContainerRegistryAuthenticationBasic(username="ann", password="geheim")
        ),
        logging=ContainerConfigurationLogging(
            http=ContainerLoggingConfigurationHttp2(
                host="logs.example", port=443, format="json", compression="gzip", password="geheim"
            )
        ),
    )
    request.display_name = "Mandelbrot, the set"
    request.country_codes = ["us", "de"]
    request.networking = CreateContainerGroupNetworking(auth=True, port=8080, protocol="http")
    request.queue_autoscaler = QueueBasedAutoscalerConfiguration(
        desired_queue_length=10, max_replicas=20, min_replicas=1
    )
    request.liveness_probe = ContainerGroupLivenessProbe(
        failure_threshold=3,
        initial_delay_seconds=0,
        period_seconds=10,
        success_threshold=1,
        timeout_seconds=30,
        http=ContainerGroupHttpProbeConfiguration(
            headers=[ContainerGroupProbeHttpHeader("Accept", "*/*")], path="/alive", port=8080, scheme="http"
        ),
    )
    return request


async def test_a_group_is_created_read_listed_and_deleted(client: Client, service: Service) -> None:
    created: ContainerGroup = await client("create_container_group", full_request(KEY.name), *PLACE)
    assert created.current_state.status == "pending"
    assert created.current_state.description == "pulling"
    assert created.version == 1

    job_id = next(iter(service.world.vault.held))
    await service.world.board.put(job_id, Progress(Stage.PULLING, 3, 7, 41, 100))
    found: ContainerGroup = await client("get_container_group", *PLACE, KEY.name)
    assert found.id_ == created.id_
    assert found.current_state.description == "pulling: 3 of 7 layers, 41 %"
    assert found.priority == "high"
    assert found.country_codes == ["us", "de"]
    assert found.networking.port == 8080
    assert found.liveness_probe.http.path == "/alive"
    assert found.queue_autoscaler.max_replicas == 20
    assert found.container.command == ["serve", "--port", "8080"]
    assert found.container.environment_variables == {"MODE": "live"}
    assert found.container.logging.http.host == "logs.example"
    assert "geheim" not in repr(found)

    listed = await client("list_container_groups", *PLACE)
    assert [group.name for group in listed.items] == [KEY.name]

    await client("delete_container_group", *PLACE, KEY.name)
    assert (await client("list_container_groups", *PLACE)).items == []
    assert service.world.revoked == [created.id_] * 2
    assert service.world.vault.held == {}


def sdk_requests() -> dict[str, ContainerGroupCreationRequest]:
    """Return those of the documents that the SDK itself does not refuse to send."""
    requests = {}
    for name, document in documents().items():
        with contextlib.suppress(ValueError, TypeError):
            requests[name] = ContainerGroupCreationRequest._unmap(document)
    return requests


async def test_what_the_sdk_sends_it_reads_back_equal(client: Client) -> None:
    requests = sdk_requests()
    assert len(requests) > 30
    for name, request in requests.items():
        created: ContainerGroup = await client("create_container_group", request, *PLACE)
        found: ContainerGroup = await client("get_container_group", *PLACE, KEY.name)
        sent = without_secrets(request._map())
        assert found.priority == sent["container"].pop("priority", None), name  # the SDK reads it there
        for group in (created, found):
            assert differing(sent, group._map()) == [], name
        for change in PATCHES:
            changed = await client(
                "update_container_group", ContainerGroupPatch._unmap(change), *PLACE, KEY.name
            )
            assert differing(change, changed._map()) == [], name
        await client("delete_container_group", *PLACE, KEY.name)


async def test_what_the_sdk_cannot_know_is_refused_with_the_field(client: Client) -> None:
    request = request_for("app")
    request.container.image = "https://registry.example/app"
    with pytest.raises(ProblemDetails) as caught:
        await client("create_container_group", request, *PLACE)
    assert caught.value.status == 400
    assert caught.value.response.body["errors"].keys() == {"container.image"}


async def test_a_taken_name_is_a_400_whose_body_the_sdk_reads(client: Client) -> None:
    await client("create_container_group", request_for("app"), *PLACE)
    with pytest.raises(ProblemDetails) as caught:
        await client("create_container_group", request_for("app", priority="low"), *PLACE)
    assert caught.value.status == 400
    assert "'app'" in caught.value.detail
    assert caught.value.response.body["errors"] == {"name": ["is taken in this project"]}


async def test_a_missing_group_is_a_404_whose_body_the_sdk_reads(client: Client) -> None:
    for method in ("get_container_group", "delete_container_group"):
        with pytest.raises(ProblemDetails) as caught:
            await client(method, *PLACE, "nothing-here")
        assert caught.value.status == 404
        assert caught.value.title == "Not found"


async def test_another_organization_is_forbidden_to_write_and_not_found_to_read(client: Client) -> None:
    for organization in ("other-corp", "nobody-at-all"):
        with pytest.raises(ProblemDetails) as caught:
            await client("create_container_group", request_for("app"), organization, "dev-env")
        assert caught.value.status == 403
        with pytest.raises(ProblemDetails) as caught:
            await client("get_container_group", organization, "dev-env", "app")
        assert caught.value.status == 404


async def test_a_wrong_key_is_refused(service: Service) -> None:
    sdk = asynchronous_client(service, "guess")
    with pytest.raises(ApiError) as caught:
        await sdk.container_groups.list_container_groups(*PLACE)
    assert caught.value.status == 401
