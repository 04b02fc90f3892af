import hmac
import warnings
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import ClientResponse, ClientSession, web
from aiohttp.test_utils import TestServer

from auth.ports import AuditEvent
from registry.api.key_refusals import KeyRefusals
from registry.api.openapi import document
from registry.api.public import PREFIX, ApiKeyAuthenticator, public_app
from registry.audit.types import RegistryEventType
from registry.catalog.api_keys import SqlApiKeyDirectory
from registry.catalog.engine.database import Database
from registry.ephemeral.rate_limits import RedisRateLimiter
from registry.model.api_keys import ApiKey
from registry.model.organizations import Organization
from registry.services.api_keys import hash_api_key
from storage.keys.local import LocalKeyring
from tests.support.catalogs import sqlite_catalog
from tests.unit.registry.services.fakes import World

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the SDK's own string escapes, seen when it is first compiled
    import salad_cloud_sdk  # noqa: F401

OPERATOR_KEY = "operator-key"
CREATED = AuditEvent(RegistryEventType.API_KEY_CREATED)
API_KEYS = {"acme-corp": "key-of-acme", "other-corp": "key-of-other"}


class Unlimited(RedisRateLimiter):
    """Limits nothing, and needs no Redis."""

    def __init__(self) -> None:
        """Hold nothing."""

    async def take(self, caller: str, per_minute: int | None = None) -> float:  # noqa: ARG002 (as in the base class)
        return 0.0


UNLIMITED = Unlimited()


@dataclass(frozen=True)
class Service:
    """The public API on a free port, over a real catalog."""

    world: World
    base_url: str
    session: ClientSession
    database: Database
    operations: Mapping[str, Mapping[str, object]]

    async def call(
        self,
        method: str,
        path: str,
        *,
        key: str | None = API_KEYS["acme-corp"],
        if_match: str | None = None,
        content_type: str | None = None,
        **options: object,
    ) -> ClientResponse:
        given = {"Salad-Api-Key": key, "If-Match": if_match, "Content-Type": content_type}
        headers = {name: value for name, value in given.items() if value is not None}
        response = await self.session.request(method, self.base_url + path, headers=headers, **options)  # type: ignore[arg-type]
        await response.read()
        return response


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    database = await sqlite_catalog(tmp_path)
    world = World(database)
    for name, key in API_KEYS.items():
        await world.organizations.add(Organization(name, datetime.now(UTC)))
        kept = ApiKey(f"id of {key}", name, "first", datetime.now(UTC))
        await SqlApiKeyDirectory(database, world.clock).add(kept, hash_api_key(key), CREATED, limit=1)
    authenticate = ApiKeyAuthenticator(
        keys=world.keys,
        is_operator_key=lambda key: hmac.compare_digest(key.encode(), OPERATOR_KEY.encode()),
        refusals=KeyRefusals(world.events, UNLIMITED),
    )
    keyring = LocalKeyring.create(tmp_path / "keyring.json")
    root = web.Application()
    app = public_app(world.services(keyring), authenticate)
    root.add_subapp(PREFIX, app)
    async with TestServer(root) as server, ClientSession() as session:
        operations = document([app])["paths"]
        yield Service(world, str(server.make_url(PREFIX)), session, database, operations)
    await database.close()
