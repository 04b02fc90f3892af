"""SaladCloud's published TypeScript SDK, unmodified, with groups as customers write them."""

import asyncio
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.public_api.conftest import API_KEYS, Service
from tests.support.built_programs import salad_sdk
from tests.support.group_documents import PATCHES, Json, documents

DRIVER = Path(__file__).parents[2] / "support" / "typescript_sdk.cjs"
PLACE = ("acme-corp", "dev-env")
DOCUMENTS = documents()


@pytest.fixture
async def answers(service: Service) -> Json:
    sent = [camel_case({**document, "name": f"group-{n}"}) for n, document in enumerate(DOCUMENTS.values())]
    node, folder = await asyncio.to_thread(salad_sdk)
    given = {
        "baseUrl": service.base_url,
        "apiKey": API_KEYS["acme-corp"],
        "place": PLACE,
        "documents": sent,
        "patches": camel_case(PATCHES),
    }
    output = await asyncio.to_thread(
        subprocess.check_output,
        [node, str(DRIVER), str(folder)],
        input=json.dumps(given).encode(),
        timeout=60,
    )
    return dict(json.loads(output))


def refused_by_the_sdk(step: Json) -> bool:
    """Whether the SDK's own validation of the request failed: it sent nothing."""
    return step["step"] == "create" and "Validated:" in step.get("error", "")


async def test_groups_live_and_all_other_calls_are_answered(answers: Json) -> None:
    complete = 0
    for name, life in zip(DOCUMENTS, answers["lives"], strict=True):
        if refused_by_the_sdk(life[0]):
            continue
        assert [step for step in life if "error" in step] == [], name
        created, found, *updated = (step["data"] for step in life[: 2 + len(PATCHES)])
        assert created["id"] == found["id"] == updated[-1]["id"]
        assert updated[0]["replicas"] == PATCHES[0]["replicas"]
        logs = next(step["data"] for step in life if step["step"] == "system logs")
        assert logs["items"][-1]["eventName"] == "The group was created; its image will be imported"
        complete += 1
    assert complete >= 20, complete

    calls = answers["calls"]
    outside = {name: call.get("status") for name, call in calls.items() if "error" in call}
    assert outside.keys() == {"listQueues", "listInferenceEndpoints"}
    data = {name: call["data"] for name, call in calls.items() if "data" in call}
    assert data["getQuotas"]["containerGroupsQuotas"]["containerReplicasUsed"] == 0
    assert data["queryLogEntries"]["items"][0]["resource"]["type"] == "deployment_controller"
    assert data["listGpuClasses"] == {"items": []}
    assert data["getWebhookSecretKey"] != data["updateWebhookSecretKey"] == data["getWebhookSecretKeyAgain"]


def camel_case(document: Any) -> Any:  # noqa: ANN401 (JSON)
    """Write every member in camel case, as the SDK does, except the names of environment variables."""
    if isinstance(document, list | tuple):
        return [camel_case(item) for item in document]
    if not isinstance(document, dict):
        return document
    return {
        re.sub(r"[_-]([a-z])", lambda found: found[1].upper(), name): value
        if name == "environment_variables"
        else camel_case(value)
        for name, value in document.items()
    }
