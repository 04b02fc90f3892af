"""Quotas of an organization, on a real server: what they count, and what exceeding one answers."""

import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support import images
from tests.support.crisper import CRISPER, CrisperServer, Customer, Organization
from tests.support.group_documents import MINIMAL
from tests.support.http import Response, request
from tests.support.processes import run, wait_until
from tests.support.upstream import Upstream

MEMORY_BYTES = 512 << 20
MIB = 1 << 20


@dataclass(frozen=True)
class Tenant:
    """An organization of its own on the shared server."""

    server: CrisperServer
    organization: Organization
    silent: str

    @property
    def customer(self) -> Customer:
        return self.server.customer(self.organization)

    def limit(self, **quotas: int | None) -> None:
        path = f"/organizations/{self.organization.name}/quotas"
        self.server.operator.call("PATCH", path, quotas).expect(200)

    @property
    def key(self) -> dict[str, str]:
        return {"Salad-Api-Key": self.organization.api_key}

    @property
    def path(self) -> str:
        return f"/api/public/organizations/{self.organization.name}/projects/default/containers"

    def create(self, name: str, **members: object) -> Response:
        body = {**MINIMAL, "name": name, **members}
        return request("POST", self.server.url + self.path, headers=self.key, body=body)

    def quotas(self) -> dict[str, Any]:
        path = f"{self.server.url}/api/public/organizations/{self.organization.name}/quotas"
        shown = request("GET", path, headers=self.key)
        return dict(shown.expect(200).json())


@pytest.fixture(scope="module")
def silent() -> Iterator[str]:
    """A registry that accepts connections and says nothing: imports from it stay pending."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, upstream: Upstream, silent: str
) -> Iterator[CrisperServer]:
    folder = tmp_path_factory.mktemp("quotas")
    with CrisperServer(folder / "server", insecure_registries=[upstream.host, silent]) as server:
        yield server


@pytest.fixture
def tenant(server: CrisperServer, silent: str) -> Tenant:
    return Tenant(server, server.operator.create_organization(), silent)


def refused(answer: Response, quota: str) -> None:
    """Check the documented error of a counted quota."""
    problem = answer.expect(403).json()
    assert problem["type"] == "urn:crisper:problem:quota-exceeded"
    assert quota in problem["detail"]
    assert "ask the operator" in problem["detail"]


def test_quotas_are_on_by_default(tenant: Tenant) -> None:
    shown = tenant.quotas()
    limits = {name: quota["limit"] for name, quota in shown["registry_quotas"].items()}
    assert all(limit for name, limit in limits.items() if name != "image_bytes"), limits
    assert limits["spec_bytes"] == 64 << 10
    groups = shown["container_groups_quotas"]
    assert (groups["container_replicas_quota"], groups["container_replicas_used"]) == (5000, 0)
    refused(tenant.create("large", readme="x" * (64 << 10)), "spec_bytes")


def test_groups_and_replicas_are_counted_and_repeated_requests_are_not(tenant: Tenant) -> None:
    tenant.limit(groups=2, replicas=7)
    for _ in range(2):
        tenant.create("one", replicas=3).expect(201)
    refused(tenant.create("many", replicas=5), "replicas")
    tenant.create("two", replicas=4).expect(201)
    refused(tenant.create("three", replicas=0), "groups")
    refused(tenant.customer.call("PATCH", "one", {"replicas": 4}), "replicas")
    tenant.customer.call("PATCH", "one", {"replicas": 2}).expect(200)
    used = {name: quota.get("used") for name, quota in tenant.quotas()["registry_quotas"].items()}
    assert (used["groups"], used["replicas"]) == (2, 6)
    tenant.customer.delete("two")
    tenant.create("three").expect(201)


def test_a_patch_does_not_make_a_group_larger_than_its_quota(tenant: Tenant) -> None:
    tenant.limit(spec_bytes=2000)
    tenant.create("one").expect(201)
    refused(tenant.customer.call("PATCH", "one", {"readme": "x" * 2000}), "spec_bytes")
    tenant.limit(spec_bytes=None)
    tenant.customer.call("PATCH", "one", {"readme": "x" * 2000}).expect(200)
    tenant.limit(spec_bytes=2000)
    tenant.customer.call("PATCH", "one", {"readme": "x"}).expect(200)


def test_creations_per_minute_are_a_429_with_the_time_to_wait(tenant: Tenant) -> None:
    tenant.limit(creations_per_minute=3)
    for n in range(3):
        tenant.create(f"group-{n}").expect(201)
    late = tenant.create("group-3").expect(429)
    assert 1 <= int(late.headers["Retry-After"]) <= 20
    assert "creations_per_minute is 3" in late.json()["detail"]
    tenant.create("group-2").expect(201)  # repeated: nothing is created


def test_instances_are_not_reallocated_more_often_than_the_quota(tenant: Tenant, upstream: Upstream) -> None:
    operator = tenant.server.operator
    image = upstream.reference(images.random_layers())
    group = tenant.customer.import_image(image, username=upstream.username, password=upstream.password)
    tenant.customer.call("POST", f"{group}/start").expect(202)
    tenant.limit(reallocations_per_minute=1)
    for kind in ("restart", "recreate", "reallocate"):
        operator.mint(tenant.organization, group, operator.create_node())
        instances = tenant.customer.call("GET", f"{group}/instances").expect(200).json()["instances"]
        path = f"{group}/instances/{instances[0]['id']}/{kind}"
        tenant.customer.call("POST", path).expect(202)
        remaining = tenant.customer.call("GET", f"{group}/instances").expect(200).json()["instances"]
        tenant.customer.call("POST", f"{group}/instances/{remaining[0]['id']}/{kind}").expect(429)


@pytest.mark.parametrize(
    ("quotas", "sentence"),
    [
        ({"image_bytes": 1000}, "image too large"),
        ({"stored_bytes": 1000}, "failed to store: the image would take the organization over"),
        ({"import_bytes_per_day": 1000}, "failed to pull: the image would take the organization over"),
    ],
)
def test_an_image_beyond_a_quota_is_not_imported(
    tenant: Tenant, upstream: Upstream, quotas: dict[str, int], sentence: str
) -> None:
    tenant.limit(**quotas)
    image = upstream.reference(images.random_layers())
    group = tenant.customer.create_group(image, username=upstream.username, password=upstream.password)
    state = tenant.customer.wait_settled(group)["current_state"]
    assert (state["status"], state["description"].startswith(sentence)) == ("failed", True), state
    tenant.limit(**dict.fromkeys(quotas))
    tenant.customer.import_image(image, username=upstream.username, password=upstream.password)
    used = tenant.quotas()["registry_quotas"]
    assert used["stored_bytes"]["used"] > 1000
    assert used["import_bytes_per_day"]["used"] > 1000


def test_open_streams_are_counted_and_closed_ones_are_not(tenant: Tenant) -> None:
    tenant.limit(streams=2)
    group = tenant.customer.create_group(f"{tenant.silent}/app:1")
    path = (
        f"/api/public/organizations/{tenant.organization.name}/projects/default/containers/{group}/progress"
    )
    headers = {**tenant.key, "Accept": "text/event-stream"}

    def open_stream(stack: ExitStack) -> int:
        connection = HTTPConnection("127.0.0.1", tenant.server.port, timeout=20)
        stack.callback(connection.close)
        connection.request("GET", path, headers=headers)
        return stack.enter_context(connection.getresponse()).status

    with ExitStack() as stack:
        assert [open_stream(stack) for _ in range(3)] == [200, 200, 429]

    def is_free() -> bool:
        with ExitStack() as stack:
            return open_stream(stack) == 200

    wait_until(is_free, timeout_s=30, what="closed streams no longer count")


def test_a_revoked_key_ends_its_streams_and_no_others(tenant: Tenant) -> None:
    group = tenant.customer.create_group(f"{tenant.silent}/app:1")
    keys, operator = f"/organizations/{tenant.organization.name}/api-keys", tenant.server.operator
    second = operator.call("POST", keys, {"name": "leaked"}).expect(201).json()
    streams = []
    with ExitStack() as stack:
        for key in (second["api_key"], tenant.organization.api_key):
            connection = HTTPConnection("127.0.0.1", tenant.server.port, timeout=20)
            stack.callback(connection.close)
            headers = {"Salad-Api-Key": key, "Accept": "text/event-stream"}
            connection.request("GET", f"{tenant.path}/{group}/progress", headers=headers)
            streams.append(stack.enter_context(connection.getresponse()))
        assert [stream.status for stream in streams] == [200, 200]
        operator.call("DELETE", f"{keys}/{second['key_id']}").expect(204)
        assert b"settled" not in streams[0].read()  # to its end
        tenant.customer.delete(group)
        streams[1].read()


def test_keys_and_webhooks_are_counted(tenant: Tenant) -> None:
    tenant.limit(api_keys=2, webhooks=1)
    base, operator = f"/organizations/{tenant.organization.name}", tenant.server.operator
    second = operator.call("POST", f"{base}/api-keys", {"name": "ci"}).expect(201).json()
    refused(operator.call("POST", f"{base}/api-keys", {"name": "ci"}), "api_keys")
    operator.call("DELETE", f"{base}/api-keys/{second['key_id']}").expect(204)
    operator.call("POST", f"{base}/api-keys", {"name": "ci"}).expect(201)
    hook = {"url": "https://hooks.example.com/in"}
    operator.call("POST", f"{base}/webhooks", hook).expect(201)
    refused(operator.call("POST", f"{base}/webhooks", hook), "webhooks")


def test_an_operator_sets_quotas_on_the_command_line(tenant: Tenant) -> None:
    name = tenant.organization.name
    env = {"CRISPER_URL": tenant.server.url, "CRISPER_API_KEY": tenant.server.operator_key}
    shown = run(
        [str(CRISPER), "quota", "set", name, "groups=1", "spec-bytes=none", "streams=default"], env=env
    )
    assert re.search(r"groups\s+1\s+0\s+operator", shown.output)
    assert re.search(r"spec_bytes\s+none\s+operator", shown.output)
    assert re.search(r"streams\s+32\s+default", shown.output)
    tenant.create("one").expect(201)
    refused(tenant.create("two"), "groups")
    events = tenant.server.operator.events(type="organization.quotas_changed", organization_name=name)
    assert events[-1]["detail"] == {"quotas": {"groups": 1, "spec_bytes": 0, "streams": None}}
    path = f"/organizations/{name}/quotas"
    for wrong in ({"groups": -1}, {"groups": "1"}, {"group": 1}, {"groups": 1 << 60}, {"groups": 1.5}):
        tenant.server.operator.call("PATCH", path, wrong).expect(400)
    tenant.server.operator.call("GET", "/organizations/nobody/quotas").expect(404)
    tenant.server.operator.call("PATCH", "/organizations/nobody/quotas", {"groups": 1}).expect(404)


@pytest.mark.full
def test_lists_that_nobody_reads_take_no_memory(tmp_path: Path) -> None:
    """150 groups of almost 1 MiB, and ten clients that ask for the list and read nothing."""
    with CrisperServer(tmp_path / "server", env={"CRISPER_ROLES": "api"}) as server:
        tenant = Tenant(server, server.operator.create_organization(), "")
        tenant.limit(spec_bytes=0, groups=0, creations_per_minute=0)
        value = "x" * 100_000
        members = {
            "container": {
                **MINIMAL["container"],
                "environment_variables": {f"V{n}": value for n in range(10)},
            }
        }
        with ThreadPoolExecutor(4) as pool:
            made = pool.map(lambda n: tenant.create(f"group-{n}", **members).status, range(150))
            assert set(made) == {201}
        path = tenant.path
        ask = f"GET {path} HTTP/1.1\r\nHost: x\r\nSalad-Api-Key: {tenant.organization.api_key}\r\n\r\n"
        with ExitStack() as stack:
            for _ in range(10):
                client = stack.enter_context(socket.socket())
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.connect(("127.0.0.1", server.port))
                client.sendall(ask.encode())
            for _ in range(20):
                page = request("GET", server.url + path, headers=tenant.key).expect(200).json()
                assert len(page["items"]) == 1
                assert memory_bytes(server) < MEMORY_BYTES
        assert len(walk(server, path, tenant)) == 150


def walk(server: CrisperServer, path: str, tenant: Tenant) -> set[str]:
    names: set[str] = set()
    while path:
        page = request("GET", server.url + path, headers=tenant.key).expect(200)
        names |= {group["name"] for group in page.json()["items"]}
        link = re.fullmatch(r'<(.*)>; rel="next"', page.headers.get("Link", ""))
        path = link[1] if link else ""
    return names


def memory_bytes(server: CrisperServer) -> int:
    """Return the memory of the largest process of the server."""
    parent = psutil.Process(server.process.pid)
    return max(each.memory_info().rss for each in [parent, *parent.children(recursive=True)])
