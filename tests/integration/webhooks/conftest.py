"""A webhook dispatcher over a real catalog and keyring, and a scripted endpoint."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from auth.ports import AuditEvent
from registry.audit.types import EVENT_TYPES
from registry.catalog.engine.database import Database
from registry.catalog.events import SqlEventLog
from registry.catalog.organizations import SqlOrganizationDirectory
from registry.catalog.quotas import SqlQuotas
from registry.catalog.webhooks import SqlWebhooks
from registry.model.organizations import Organization
from registry.model.quotas import Quotas
from registry.services.quotas import OrganizationQuotas
from registry.services.webhook_delivery import WebhookDispatcher
from registry.services.webhooks import NewWebhook, Webhooks, WebhookSecrets
from registry.upstream.egress import EgressGuard
from registry.upstream.hooks import HookClient
from storage.keys.local import LocalKeyring


@dataclass(frozen=True)
class Message:
    headers: dict[str, str]
    body: str


@dataclass
class Endpoint:
    """What a customer runs: takes messages, or answers `status`."""

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        self.messages.append(Message(dict(request.headers), await request.text()))
        return web.Response(status=self.status, headers=self.headers)


class Clock:
    def __init__(self) -> None:
        self.time = datetime.now(UTC)

    def now(self) -> datetime:
        return self.time

    def later(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass(frozen=True)
class Post:
    """Everything from the trail to the endpoint."""

    webhooks: Webhooks
    catalog: SqlWebhooks
    courier: WebhookDispatcher
    events: SqlEventLog
    endpoint: Endpoint
    url: str
    clock: Clock
    database: Database
    folder: Path

    async def register(self, *types: str) -> NewWebhook:
        return await self.webhooks.register("acme", self.url, types)

    async def tell(self, type_: str = "group.imported", organization: str = "acme") -> None:
        await self.events.record(
            AuditEvent(EVENT_TYPES[type_], organization, node_id="pc-1", detail={"group": "web"})
        )

    async def carry(self) -> list[Message]:
        """Carry until there is nothing to do at this moment; return what arrived."""
        before = len(self.endpoint.messages)
        while await self.courier.round():
            pass
        return self.endpoint.messages[before:]


MAX_WEBHOOKS = 3


@pytest.fixture
async def post(tmp_path: Path, database: Database) -> AsyncIterator[Post]:
    clock, endpoint = Clock(), Endpoint()
    keyring = tmp_path / "keyring.json"
    LocalKeyring.create(keyring)
    keys = LocalKeyring.load(keyring)
    organizations = SqlOrganizationDirectory(database)
    for name in ("acme", "rival"):
        await organizations.add(Organization(name, clock.now()))
    app = web.Application()
    app.add_routes([web.post("/hook", endpoint.handle)])
    async with TestServer(app) as server:
        client = HookClient(EgressGuard(insecure=[f"127.0.0.1:{server.port}"]))
        catalog, secrets = SqlWebhooks(database, clock), WebhookSecrets(keys)
        events = SqlEventLog(database, clock)
        yield Post(
            webhooks=Webhooks(
                catalog=catalog,
                secrets=secrets,
                organizations=organizations,
                quotas=OrganizationQuotas(SqlQuotas(database, clock, Quotas(webhooks=MAX_WEBHOOKS))),
                clock=clock,
                vet=client.vet,
            ),
            catalog=catalog,
            courier=WebhookDispatcher(
                catalog=catalog,
                secrets=secrets,
                post=client.post,
                clock=clock,
                disable_after=timedelta(days=1),
                schedule_s=(5, 60, 3600),
            ),
            events=events,
            endpoint=endpoint,
            url=f"http://127.0.0.1:{server.port}/hook",
            clock=clock,
            database=database,
            folder=tmp_path,
        )
        await client.close()
    await keys.aclose()
