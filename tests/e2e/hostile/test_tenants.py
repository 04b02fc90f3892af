"""Attacks by one tenant, with its own API key, with a customer of another tenant beside it."""

import contextlib
import json
import math
from collections.abc import Callable

import pytest

from tests.e2e.hostile.conftest import Site
from tests.integration.server.test_bodies import JSON
from tests.support import images
from tests.support.crisper import Organization
from tests.support.group_documents import MINIMAL
from tests.support.processes import wait_until
from tests.support.withstanding import DURING_S

pytestmark = pytest.mark.full  # a busy machine distorts latencies

GROUPS = 60
SPEC_BYTES = 50_000
HELD = 100
STREAMS = 200
IMPORTS = 12
CHANGES_PER_MINUTE = 300


def groups_of(tenant: Organization) -> str:
    return f"/api/public/organizations/{tenant.name}/projects/default/containers"


def sender(site: Site, tenant: Organization, method: str, path: str) -> Callable[[bytes], int]:
    return lambda body: site.send(method, path, body, Salad_Api_Key=tenant.api_key, Content_Type=JSON)


def test_unread_lists(site: Site) -> None:
    tenant = site.tenant()
    create = sender(site, tenant, "POST", groups_of(tenant))
    container = {**MINIMAL["container"], "environment_variables": {"LONG": "x" * SPEC_BYTES}}
    for number in range(GROUPS):
        group = {**MINIMAL, "name": f"group-{number}", "container": container}
        assert create(json.dumps(group).encode()) == 201
    ask = f"GET {groups_of(tenant)} HTTP/1.1\r\nHost: x\r\nSalad-Api-Key: {tenant.api_key}\r\n\r\n".encode()
    site.withstands("unread lists", lambda: site.held(HELD, ask * 10))


def test_large_and_nested_documents(site: Site) -> None:
    tenant = site.tenant()
    create = sender(site, tenant, "POST", groups_of(tenant))
    bodies = [
        b'{"name":' + b"[" * 1_000_000,
        b'{"name":' + b'{"a":' * 120 + b"1" + b"}" * 120 + b"}",
        json.dumps({f"member-{n}": n for n in range(40_000)}).encode(),
        json.dumps({**MINIMAL, "replicas": [[n] for n in range(90_000)]}).encode(),
        json.dumps({**MINIMAL, "replicas": list(range(4_900))}).encode(),
        b"[" + b",".join([b"[" * 90 + b"]" * 90] * 5_000) + b"]",
        json.dumps({**MINIMAL, "readme": "\N{SNOWMAN}" * 150_000}, ensure_ascii=False).encode(),
        json.dumps({**MINIMAL, "name": "x" * 1_000_000}).encode(),
    ]
    assert max(map(len, bodies)) < 1 << 20
    # More than 300 changes a minute are refused before their bodies are read, so that few are enough.
    site.withstands("large, nested JSON", lambda: site.flood(lambda n: create(bodies[n % len(bodies)]), 2))


def test_changes_and_the_audit_trail(site: Site) -> None:
    tenant = site.tenant()
    path = groups_of(tenant)
    assert sender(site, tenant, "POST", path)(json.dumps({**MINIMAL, "name": "busy"}).encode()) == 201

    def change(number: int) -> None:
        sender(site, tenant, "PATCH", f"{path}/busy")(b'{"replicas": %d}' % (number % 50))

    site.withstands("changes by one tenant", lambda: site.flood(change))
    written = 0
    after: str | None = "0"
    while after is not None:
        query = f"/events?organization_name={tenant.name}&limit=1000&after={after}"
        page = site.shop.server.operator.call("GET", query).expect(200).json()
        written, after = written + len(page["items"]), page["next_after"]
    most = CHANGES_PER_MINUTE + math.ceil(3 * (DURING_S + 10) * CHANGES_PER_MINUTE / 60) + 10
    assert 10 < written <= most


def test_costly_log_queries(site: Site) -> None:
    tenant = site.tenant()
    path = f"/api/public/organizations/{tenant.name}/log-entries"
    search = sender(site, tenant, "POST", path)
    times = {"start_time": "2000-01-01T00:00:00Z", "end_time": "2100-01-01T00:00:00Z", "page_size": 100}
    queries = ["*a" * 500 + "*", "(" * 2000, " OR ".join(["a"] * 2000), "NOT " * 3000 + "a", "a" * 60_000]
    bodies = [json.dumps({**times, "query": query}).encode() for query in queries]
    site.withstands("costly log queries", lambda: site.flood(lambda n: search(bodies[n % len(bodies)])))


def test_event_streams(site: Site) -> None:
    tenant = site.tenant()
    path = groups_of(tenant)
    assert sender(site, tenant, "POST", path)(json.dumps({**MINIMAL, "name": "watched"}).encode()) == 201
    start = (
        f"GET {path}/watched/progress HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n"
        f"Salad-Api-Key: {tenant.api_key}\r\n\r\n"
    )
    site.withstands("event streams", lambda: site.held(STREAMS, start.encode()))


def test_dripping_imports(site: Site) -> None:
    tenant, login = site.tenant(), site.upstream.login
    customer, other = (site.shop.server.customer(each) for each in (tenant, site.tenant()))
    image = site.upstream.reference(images.runnable())
    names = [
        customer.create_group(f"{site.link.host}/{image.partition('/')[2]}", **login) for _ in range(IMPORTS)
    ]
    wait_until(lambda: site.link.busy, timeout_s=20, what="an import is under way")
    site.withstands("dripping imports", contextlib.nullcontext)
    other.import_image(image, **login)
    assert "pending" in {customer.status(name) for name in names}
    for name in names:
        customer.delete(name)


def test_keys_that_share_a_tenant(site: Site) -> None:
    """A tenant whose keys all read at the rate that one is allowed."""
    tenant, operator = site.tenant(), site.shop.server.operator
    path = f"/organizations/{tenant.name}/api-keys"
    keys = [operator.call("POST", path, {"name": "many"}).expect(201).json()["api_key"] for _ in range(20)]
    site.withstands(
        "reads by 20 keys of a tenant",
        lambda: site.flood(lambda n: site.send("GET", groups_of(tenant), Salad_Api_Key=keys[n % len(keys)])),
    )
