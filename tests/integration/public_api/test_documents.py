"""Groups as customers write them are created, returned equal, patched and deleted (`group_documents`)."""

import json
from typing import Any

import pytest

from tests.integration.public_api.conftest import Service
from tests.support.group_documents import MINIMAL, PATCHES, Json, differing, documents, without_secrets

BASE = "/organizations/acme-corp/projects/dev-env/containers"
GROUP = f"{BASE}/mandelbrot"
DOCUMENTS = documents()
#: Members of a group that a patch takes; networking is patched by its port only.
PATCHABLE = {
    "container",
    "display_name",
    "readme",
    "country_codes",
    "liveness_probe",
    "readiness_probe",
    "startup_probe",
    "queue_autoscaler",
    "scaling-actions",
    "scheduled-scaling-enabled",
}


async def send(service: Service, method: str, path: str, document: object, content_type: str) -> Json:
    """Return the group that is answered, or the problem in its place."""
    response = await service.call(method, path, data=json.dumps(document), content_type=content_type)
    return dict(await response.json())


async def create(service: Service, document: object) -> Json:
    return await send(service, "POST", BASE, document, "application/json")


async def patch(service: Service, document: object, content_type: str = "application/json") -> Json:
    return await send(service, "PATCH", GROUP, document, content_type)


async def read(service: Service) -> Json:
    return dict(await (await service.call("GET", GROUP)).json())


async def delete(service: Service) -> None:
    assert (await service.call("DELETE", GROUP)).status == 202


async def life_of(service: Service, document: Json) -> list[object]:
    """Create a group, read it, patch it and delete it; return what was not as it was sent."""
    sent = without_secrets(document)
    created = await create(service, document)
    if "id" not in created:
        return [created]
    found = [differing(sent, created), differing(sent, await read(service))]
    found += [differing(change, await patch(service, change)) for change in PATCHES]
    kept = {name: value for name, value in sent.items() if name not in {"replicas", "container"}}
    found.append(differing(kept, await read(service)))
    await delete(service)
    return [difference for difference in found if difference]


async def test_groups_are_created_returned_equal_patched_and_deleted(service: Service) -> None:
    refused = {name: await life_of(service, document) for name, document in DOCUMENTS.items()}
    assert {name: faults for name, faults in refused.items() if faults} == {}


def without_nulls(document: Any) -> Any:  # noqa: ANN401
    """Merge patches remove what is null in them."""
    if not isinstance(document, dict):
        return document
    return {name: without_nulls(value) for name, value in document.items() if value is not None}


@pytest.mark.parametrize("content_type", ["application/json", "application/merge-patch+json"])
async def test_groups_are_patched_with_the_same_members(service: Service, content_type: str) -> None:
    refused = {}
    for name, document in DOCUMENTS.items():
        await create(service, MINIMAL)
        sent = {key: value for key, value in document.items() if key in PATCHABLE}
        changed = await patch(service, sent, content_type)
        refused[name] = differing(without_nulls(without_secrets(sent)), changed)
        await delete(service)
    assert {name: faults for name, faults in refused.items() if faults} == {}


NULLS: Json = dict.fromkeys(PATCHABLE - {"container"})
CONTAINER_NULLS: Json = dict.fromkeys(
    ("command", "environment_variables", "image_caching", "logging", "priority", "registry_authentication")
)
RESOURCE_NULLS: Json = dict.fromkeys(("shm_size", "storage_amount", "storage"))
FULL: Json = {
    "display_name": "n",
    "readme": "r",
    "country_codes": ["us"],
    "liveness_probe": {"tcp": {"port": 1}},
    "readiness_probe": {"tcp": {"port": 1}},
    "startup_probe": {"tcp": {"port": 1}},
    "queue_autoscaler": {"desired_queue_length": 1, "max_replicas": 1, "min_replicas": 1},
    "scaling-actions": [{"replicas": 1, "schedule": "0 8 * * *"}],
    "scheduled-scaling-enabled": True,
    "container": {
        "command": ["a"],
        "environment_variables": {"A": ""},
        "image_caching": True,
        "logging": {"tcp": {"host": "h", "port": 1}},
        "priority": "high",
        "resources": {"shm_size": 1, "storage_amount": 1, "storage": 1, "gpu_classes": ["a"]},
    },
}


def steady(group: Json) -> Json:
    """Return what does not differ between two groups that were sent the same."""
    moving = {"id", "create_time", "update_time", "current_state", "version", "pending_change"}
    return {name: value for name, value in group.items() if name not in moving}


async def test_a_null_in_a_patch_removes_a_member(service: Service) -> None:
    plain = await create(service, MINIMAL)
    resources = {**RESOURCE_NULLS, "gpu_classes": None, "cpu": None, "memory": None}
    nulls = {
        **NULLS,
        "networking": None,
        "replicas": None,
        "container": {**CONTAINER_NULLS, "resources": resources, "image": None},
    }
    assert steady(await patch(service, nulls)) == steady(plain)
    full = await patch(service, FULL)
    assert differing(FULL, full) == []
    assert steady(await patch(service, {"container": {"resources": None}})) == steady(full)
    assert steady(await patch(service, nulls)) == steady(plain)


async def test_a_null_in_a_request_means_leaving_a_member_out(service: Service) -> None:
    plain = await create(service, MINIMAL)
    await delete(service)
    resources = {**MINIMAL["container"]["resources"], **RESOURCE_NULLS}
    container = {**MINIMAL["container"], **CONTAINER_NULLS, "resources": resources}
    nulls = {**NULLS, "networking": None, "queue_connection": None}
    created = await create(service, {**MINIMAL, **nulls, "container": container})
    assert steady(created) == steady(plain)
