"""Logs, webhooks' secret key, hardware, reports of instances, and what is out of scope, over HTTP."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from salad_cloud_sdk import SaladCloudSdk, SaladCloudSdkAsync
from salad_cloud_sdk.models import GpuAvailabilityPrototype, LogEntryQuery

from registry.api.public.out_of_scope import _OPERATIONS
from registry.model.groups import GroupKey
from registry.model.instances import InstanceState, state_event
from tests.integration.public_api.conftest import API_KEYS, Service
from tests.support.group_documents import MINIMAL, Json
from tests.unit.registry.services.test_changes import end_import

ORGANIZATION = "/organizations/acme-corp"
GROUPS = f"{ORGANIZATION}/projects/dev-env/containers"
KEY = GroupKey("acme-corp", "dev-env", "mandelbrot")
ALL = {"start_time": "2020-01-01T00:00:00Z", "end_time": "2100-01-01T00:00:00+00:00", "query": ""}
PROBE = {"tcp": {"port": 80}}


async def running(service: Service, **members: object) -> str:
    """Create a started group whose image is stored, with one instance; return the instance's path."""
    document = {**MINIMAL, "autostart_policy": True, **members}
    assert (await service.call("POST", GROUPS, json=document)).status == 201
    await end_import(service.world)
    group = await service.world.catalog.get(KEY)
    assert group is not None
    instance = await service.world.designations.designate(group, "pc-1", 1, "token-1")
    created = replace(instance, state=InstanceState.CREATING)
    await service.world.designations.advance(group, instance, created, partial(state_event, group))
    return f"{GROUPS}/mandelbrot/instances/{instance.id}"


async def query(service: Service, **wanted: object) -> Json:
    answer = await service.call("POST", f"{ORGANIZATION}/log-entries", json={**ALL, **wanted})
    assert answer.status == 200, await answer.text()
    return dict(await answer.json())


async def test_system_logs_are_the_events_of_one_group_newest_first(service: Service) -> None:
    await running(service)
    await service.call("POST", GROUPS, json={**MINIMAL, "name": "other"})
    answer = await service.call("GET", f"{GROUPS}/mandelbrot/system-logs")
    items = (await answer.json())["items"]
    assert [item["event_name"] for item in items][-2:] == [
        "The image is stored",
        "The group was created; its image will be imported",
    ]
    assert items[0]["resource_cpu"] == 1
    assert (items[0]["resource_gpu_class"], items[0]["resource_storage_amount"]) == ("", None)
    assert (await service.call("GET", f"{GROUPS}/nobody/system-logs")).status == 404


@pytest.mark.parametrize(
    "resources", [{"cpu": 1, "memory": 1}, {"cpu": 0, "memory": 2**40, "storage_amount": 2**60}]
)
async def test_resources_beyond_the_reference_are_null_in_system_logs(
    service: Service, resources: Json
) -> None:
    document = {**MINIMAL, "container": {**MINIMAL["container"], "resources": resources}}
    await service.call("POST", GROUPS, json=document)
    (item,) = (await (await service.call("GET", f"{GROUPS}/mandelbrot/system-logs")).json())["items"]
    assert (item["resource_memory"], item["resource_storage_amount"]) == (None, None)


async def test_log_entries_are_filtered_and_walked_page_by_page_in_both_directions(service: Service) -> None:
    for n in range(7):
        await service.call("POST", GROUPS, json={**MINIMAL, "name": f"group-{n}"})
    await end_import(service.world, failing=True)
    everything = await query(service)
    assert len(everything["items"]) == 8
    (failed,) = (await query(service, query='severity >= "warning"'))["items"]
    assert failed["resource"]["labels"]["container_group_name"] == "group-0"
    assert failed["text_log"].startswith("The import failed: failed to")
    for order, border, bound in (
        ("desc", "page_min_time", "end_time"),
        ("asc", "page_max_time", "start_time"),
    ):
        seen: list[Any] = []
        window: dict[str, object] = {}
        for _ in range(20):
            page = await query(service, sort_order=order, page_size=3, **window)
            assert len(page["items"]) <= 3
            seen += page["items"]
            window = {bound: page[border]}
            if page["page_min_time"][:4] == "2020" and page["page_max_time"][:4] == "2100":
                break
            if not page["items"]:
                break
        ordered = everything["items"] if order == "desc" else everything["items"][::-1]
        assert seen == ordered
    other = await service.call(
        "POST", "/organizations/other-corp/log-entries", json=ALL, key=API_KEYS["other-corp"]
    )
    assert (await other.json())["items"] == []


@pytest.mark.parametrize(
    "wanted",
    [
        {"query": "severity"},
        {"page_size": 0},
        {"page_size": 101},
        {"start_time": "yesterday"},
        {"start_time": "2026-01-01T00:00:00"},
        {"start_time": "0001-01-01T00:00:00+14:00"},
        {"end_time": 17},
        {"sort_order": "up"},
    ],
)
async def test_a_query_that_is_not_valid_is_a_400(service: Service, wanted: Json) -> None:
    answer = await service.call("POST", f"{ORGANIZATION}/log-entries", json={**ALL, **wanted})
    assert answer.status == 400
    assert list((await answer.json())["errors"]) == list(wanted)


async def test_instances_show_what_the_scheduler_reports_until_their_container_is_new(
    service: Service,
) -> None:
    path = await running(service, startup_probe=PROBE, readiness_probe=PROBE)
    instance_id = path.rpartition("/")[2]

    async def shown() -> Json:
        answer = await service.call("GET", path)
        assert answer.status == 202
        return dict(await answer.json())

    first = await shown()
    assert (first["started"], first["ready"], "cpu_percent" in first) == (False, False, False)
    report = service.world.instances.report
    details = {"started": True, "ready": False, "cpu_percent": 12.5, "ssh_ip": "192.0.2.7", "ssh_port": 22}
    await report(instance_id, KEY, InstanceState.RUNNING, details)
    found = await shown()
    assert {name: found[name] for name in details} == details
    await report(instance_id, KEY, InstanceState.RUNNING, {"ready": True, "ssh_ip": None})
    found = await shown()
    assert (found["ready"], found["cpu_percent"], "ssh_ip" in found) == (True, 12.5, False)
    assert (await service.call("POST", f"{path}/restart")).status == 202
    found = await shown()
    assert (found["state"], found["started"], found["ready"], "cpu_percent" in found) == (
        "creating",
        False,
        False,
        False,
    )


async def test_without_probes_an_instance_has_started_and_is_ready_when_it_runs(service: Service) -> None:
    path = await running(service)
    assert (await (await service.call("GET", path)).json())["started"] is True
    await service.world.instances.report(path.rpartition("/")[2], KEY, InstanceState.RUNNING)
    found = await (await service.call("GET", path)).json()
    assert (found["started"], found["ready"]) == (True, True)


async def test_replicas_without_a_node_are_being_allocated_while_the_group_is_up(service: Service) -> None:
    await running(service)

    async def counts() -> Json:
        group = await (await service.call("GET", f"{GROUPS}/mandelbrot")).json()
        return dict(group["current_state"]["instance_status_counts"])

    assert (await counts())["allocating_count"] == 2
    await service.call("PATCH", f"{GROUPS}/mandelbrot", json={"replicas": 9})
    assert (await counts()) == {
        "allocating_count": 8,
        "creating_count": 1,
        "running_count": 0,
        "stopping_count": 0,
    }
    await service.call("POST", f"{GROUPS}/mandelbrot/stop")
    assert (await counts())["allocating_count"] == 0


@pytest.mark.parametrize("operation", _OPERATIONS)
async def test_queues_and_inference_endpoints_are_out_of_scope(service: Service, operation: str) -> None:
    method, path = _OPERATIONS[operation]
    path = path.replace("{organization_name}", "acme-corp").replace("{project_name}", "dev-env")
    path = path.replace("{", "").replace("}", "")
    answer = await service.call(method, path, data=b"\xff" * 100, content_type="text/plain")
    assert answer.status == 501
    assert (await answer.json())["type"] == "urn:crisper:problem:out-of-scope"
    refused = await service.call(method, path, key=API_KEYS["other-corp"])
    assert refused.status == (404 if method == "GET" else 403)


@pytest.mark.parametrize("client", ["sync", "async"])
async def test_the_sdk_calls_every_other_operation(service: Service, client: str) -> None:
    await running(service)
    key = API_KEYS["acme-corp"]
    if client == "sync":
        sdk = SaladCloudSdk(api_key=key, base_url=service.base_url, timeout=10_000)
    else:
        sdk = SaladCloudSdkAsync(base_url=service.base_url)
        sdk.set_api_key(key)
        sdk.set_timeout(10_000)

    async def call(method: Any, *args: object) -> Any:  # noqa: ANN401 (the SDK's models)
        return await (asyncio.to_thread(method, *args) if client == "sync" else method(*args))

    quotas = await call(sdk.quotas.get_quotas, "acme-corp")
    assert quotas.container_groups_quotas.container_replicas_used == 3
    logs = await call(sdk.system_logs.get_system_logs, "acme-corp", "dev-env", "mandelbrot")
    assert logs.items
    now = datetime.now(UTC) + timedelta(days=365)
    wanted = LogEntryQuery(end_time=now.isoformat(), query='severity = "info"', start_time=ALL["start_time"])
    entries = await call(sdk.logs.query_log_entries, wanted, "acme-corp")
    assert entries.items
    assert (await call(sdk.organization_data.list_gpu_classes, "acme-corp")).items == []
    gpus = GpuAvailabilityPrototype(gpu_classes=["0b7c9a52-6f0e-4f5c-9a55-1f5a0f0f8c11"])
    available = await call(sdk.organizations.get_gpu_availability, gpus, "acme-corp")
    assert available.available_gpu_low == 0
    first = await call(sdk.webhook_secret_key.get_webhook_secret_key, "acme-corp")
    assert (
        await call(sdk.webhook_secret_key.get_webhook_secret_key, "acme-corp")
    ).secret_key == first.secret_key
    renewed = await call(sdk.webhook_secret_key.update_webhook_secret_key, "acme-corp")
    assert renewed.secret_key != first.secret_key
