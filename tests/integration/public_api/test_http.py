"""What the SDK does not send, sent by hand."""

import asyncio
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.integration.public_api.conftest import API_KEYS, OPERATOR_KEY, Service

GROUPS = "/organizations/acme-corp/projects/dev-env/containers"
DOCUMENT: dict[str, Any] = {
    "name": "app",
    "container": {"image": "registry.example/app:1", "resources": {"cpu": 1, "memory": 1024}},
    "autostart_policy": True,
    "replicas": 1,
    "restart_policy": "never",
}


async def test_a_created_group_is_found_at_its_location(service: Service) -> None:
    created = await service.call("POST", GROUPS, json=DOCUMENT)
    assert created.status == 201
    location = created.headers["Location"]
    assert location.endswith(f"{GROUPS}/app")
    found = await service.call("GET", location.removeprefix("/api/public"))
    assert await found.json() == await created.json()


async def test_the_operators_key_reaches_every_organization(service: Service) -> None:
    for organization in API_KEYS:
        path = GROUPS.replace("acme-corp", organization)
        assert (await service.call("POST", path, key=OPERATOR_KEY, json=DOCUMENT)).status == 201
    missing = await service.call("GET", GROUPS.replace("acme-corp", "nobody"), key=OPERATOR_KEY)
    assert missing.status == 404


@pytest.mark.parametrize("key", [None, "", "guess", "k" * 2000, "sch\u00fcssel"])
async def test_without_a_good_key_every_address_is_a_401_problem(service: Service, key: str | None) -> None:
    for path in (GROUPS, "/nothing/here"):
        response = await service.call("GET", path, key=key)
        assert response.status == 401
        assert response.content_type == "application/problem+json"
        assert response.headers["WWW-Authenticate"].startswith("Salad-Api-Key")
        document = await response.json()
        assert document["status"] == 401
        assert document["instance"].startswith("urn:uuid:")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PATCH"])
async def test_another_organization_reads_alike_whether_it_exists_or_not(
    service: Service, method: str
) -> None:
    answers = []
    for organization in ("other-corp", "nobody"):
        path = GROUPS.replace("acme-corp", organization) + ("" if method == "POST" else "/app")
        response = await service.call(method, path, json=DOCUMENT)
        document = await response.json()
        del document["instance"]
        answers.append((response.status, document))
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", f"{GROUPS}/app", 405),
        ("PUT", GROUPS, 405),
        ("POST", f"{GROUPS}/app/pause", 404),
        ("GET", f"{GROUPS}/app/instances", 404),
        ("GET", "/organizations", 404),
    ],
)
async def test_what_is_not_served_is_a_problem_too(
    service: Service, method: str, path: str, status: int
) -> None:
    response = await service.call(method, path, json={})
    assert response.status == status
    assert response.content_type == "application/problem+json"
    assert ("Allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"{", 400),
        ("application/json", b"\xff", 400),
        ("application/json", b"", 400),
        ("application/json", b"[" * 100_000, 400),
        ("text/plain", json.dumps(DOCUMENT).encode(), 415),
        ("application/json", b" " * ((1 << 20) + 1), 413),
    ],
)
async def test_a_body_that_cannot_be_taken_is_a_problem(
    service: Service, content_type: str, body: bytes, status: int
) -> None:
    headers = {"Content-Type": content_type, "Salad-Api-Key": API_KEYS["acme-corp"]}
    async with service.session.post(
        service.base_url + GROUPS, headers=headers, data=BytesIO(body)
    ) as response:
        assert response.status == status
        assert response.content_type == "application/problem+json"


@pytest.mark.parametrize("name", ["App", "a", "app%0A", "app%00", "%FF%FE", "a" * 64])
async def test_a_name_that_cannot_be_one_is_not_found(service: Service, name: str) -> None:
    assert (await service.call("GET", f"{GROUPS}/{name}", key=OPERATOR_KEY)).status == 404
    projects = f"/organizations/acme-corp/projects/{name}/containers"
    assert (await service.call("POST", projects, json=DOCUMENT)).status == 404


async def test_a_ledger_that_does_not_answer_stops_a_deletion_before_it_starts(service: Service) -> None:
    await service.call("POST", GROUPS, json=DOCUMENT)
    service.world.revocations_allowed = 0
    response = await service.call("DELETE", f"{GROUPS}/app")
    assert response.status == 503
    assert response.headers["Retry-After"] == "5"
    assert (await service.call("GET", f"{GROUPS}/app")).status == 200


async def test_no_secret_of_a_request_is_in_the_catalogs_files(service: Service, tmp_path: Path) -> None:
    container = {
        **DOCUMENT["container"],
        "registry_authentication": {"basic": {"username": "ann", "password": "geheim-1"}},
        "logging": {"splunk": {"host": "h", "token": "geheim-2"}},
    }
    response = await service.call("POST", GROUPS, json={**DOCUMENT, "container": container})
    assert response.status == 201
    assert "geheim" not in await response.text()
    assert await asyncio.to_thread(files_holding, b"geheim", tmp_path) == []


def files_holding(word: bytes, folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir() if word in file.read_bytes()]
