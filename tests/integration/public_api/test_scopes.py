"""Scopes of API keys on the public API, their last use, and the actor in the audit trail, over HTTP."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Final

import pytest

from registry.api.public import PREFIX
from registry.api.public.authentication import caller_with
from registry.catalog.api_keys import SqlApiKeyDirectory
from registry.errors import AccessDeniedError
from registry.model.access import KeyScope
from registry.model.api_keys import ApiKey
from registry.services.api_keys import ApiKeys, hash_api_key
from tests.integration.public_api.conftest import CREATED, OPERATOR_KEY, Service
from tests.support.group_documents import MINIMAL

ORGANIZATION = "/organizations/acme-corp"
GROUPS = f"{ORGANIZATION}/projects/dev-env/containers"
LOGS = {"start_time": "2020-01-01T00:00:00Z", "end_time": "2100-01-01T00:00:00Z", "query": ""}


async def add_key(service: Service, scope: KeyScope) -> str:
    """Create a key of a scope; it is also its own id."""
    secret = f"{scope}-key"
    kept = ApiKey(secret, "acme-corp", f"the {scope} key", datetime.now(UTC), scope=scope)
    directory = SqlApiKeyDirectory(service.database, service.world.clock)
    await directory.add(kept, hash_api_key(secret), CREATED, limit=10)
    return secret


OPERATIONS: Final[list[tuple[str, str, object, tuple[str, ...]]]] = [
    ("GET", GROUPS, None, ("read", "deploy", "full")),
    ("GET", f"{ORGANIZATION}/quotas", None, ("read", "deploy", "full")),
    ("POST", f"{ORGANIZATION}/log-entries", LOGS, ("read", "deploy", "full")),
    ("POST", GROUPS, MINIMAL, ("deploy", "full")),
    ("PATCH", f"{GROUPS}/absent", {}, ("deploy", "full")),
    ("DELETE", f"{GROUPS}/absent", None, ("deploy", "full")),
    ("POST", f"{GROUPS}/absent/start", None, ("deploy", "full")),
    ("POST", f"{GROUPS}/absent/stop", None, ("deploy", "full")),
    ("GET", f"{ORGANIZATION}/webhook-secret-key", None, ("full",)),
    ("POST", f"{ORGANIZATION}/webhook-secret-key", None, ("full",)),
    ("POST", f"{ORGANIZATION}/webhooks", {"url": "https://hooks.example.com/"}, ("full",)),
]


async def test_a_key_may_do_what_its_scope_includes(service: Service) -> None:
    keys = {scope: await add_key(service, scope) for scope in KeyScope}
    for (method, path, body, allowed), scope in product(OPERATIONS, KeyScope):
        answer = await service.call(method, path, key=keys[scope], json=body)
        if scope in allowed:
            assert answer.status in {200, 201, 404, 409}, await answer.text()
            continue
        assert answer.status == 403, (method, path, scope)
        problem = await answer.json()
        assert problem["type"] == "urn:crisper:problem:access-denied"
        assert f"has the scope {scope}, and the request needs {allowed[0]}" in problem["detail"]
        assert answer.content_type == "application/problem+json"


async def test_another_organization_looks_absent_whatever_the_scope(service: Service) -> None:
    key = await add_key(service, KeyScope.READ)
    assert (await service.call("GET", GROUPS.replace("acme", "other"), key=key)).status == 404
    answer = await service.call("POST", GROUPS.replace("acme", "other"), key=key, json=MINIMAL)
    assert (await answer.json())["type"] == "urn:crisper:problem:forbidden"


async def test_every_changing_operation_needs_more_than_the_scope_read(service: Service) -> None:
    """The operations come from the OpenAPI document, so that a new one is in the test by itself."""
    key = await add_key(service, KeyScope.READ)
    reading = {"log-entries", "sce-cpu-availability", "sce-gpu-availability"}
    tried = 0
    for path, methods in service.operations.items():
        concrete = path.removeprefix(PREFIX).format_map(
            _Names(organization_name="acme-corp", project_name="dev-env")
        )
        for method in methods:
            if method == "get" or path.rpartition("/")[2] in reading:
                continue
            answer = await service.call(method.upper(), concrete, key=key, json={})
            assert answer.status == 403, (method, path)
            tried += 1
    assert tried > 15


class _Names(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "11111111-1111-4111-8111-111111111111" if key.endswith("_id") else "absent"


class SetClock:
    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time


class CountingDirectory(SqlApiKeyDirectory):
    """Counts the writes of last uses."""

    touches = 0

    async def touch(self, key_id: str, now: datetime, *, after: timedelta) -> None:
        self.touches += 1
        await super().touch(key_id, now, after=after)


async def test_the_last_use_is_written_at_most_once_a_minute(service: Service) -> None:
    secret, clock = await add_key(service, KeyScope.DEPLOY), SetClock()
    servers = [CountingDirectory(service.database, clock) for _ in range(2)]
    world = service.world
    services = [
        ApiKeys(keys=each, organizations=world.organizations, quotas=world.quotas, clock=clock)
        for each in servers
    ]
    uses = []
    for minutes in (0, 0.5, 0.99, 1, 1.5, 4):
        clock.time = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
        await asyncio.gather(*(keys.find(secret) for keys in services for _ in range(4)))
        key = await services[0].find(secret)
        assert key is not None
        assert key.last_used_at is not None
        uses.append((key.last_used_at - datetime(2026, 1, 1, tzinfo=UTC)) / timedelta(minutes=1))
    assert uses == [0, 0, 0, 1, 1, 4]
    assert [each.touches for each in servers] == [3, 3]


async def test_the_trail_names_the_key_that_caused_a_change(service: Service) -> None:
    await service.call("POST", GROUPS, key=await add_key(service, KeyScope.DEPLOY), json=MINIMAL)
    await service.call("DELETE", f"{GROUPS}/{MINIMAL['name']}", key=OPERATOR_KEY)
    actors = {each.type: each.actor for each in await service.world.events.page()}
    created, deleted = actors["group.created"], actors["group.deleted"]
    assert created is not None
    assert (created.kind, created.id, created.name) == ("api_key", "deploy-key", "the deploy key")
    assert deleted is not None
    assert (deleted.kind, deleted.is_operator) == ("operator_key", True)
    assert all("actor" not in each.detail for each in await service.world.events.page())
    assert actors["api_key.created"] is None


def test_a_caller_without_the_scope_learns_which_one_is_needed() -> None:
    caller = caller_with(ApiKey("id", "acme", "ci", datetime.now(UTC), scope=KeyScope.READ))
    with pytest.raises(AccessDeniedError, match="scope read, and the request needs deploy"):
        caller.require_scope(KeyScope.DEPLOY)
