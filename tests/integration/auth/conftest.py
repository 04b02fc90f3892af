from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from auth.ledger import EventStream, RedisTokenLedger, connect
from auth.signing_keys import LocalSigningKeys
from tests.support.authorities import AuthStack
from tests.support.redis_server import RedisServer, running_server, server_programs


@pytest.fixture(scope="session")
def program() -> Path:
    return next(iter(server_programs().values()))


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> LocalSigningKeys:
    return LocalSigningKeys.create(tmp_path_factory.mktemp("signing-keys"))


@pytest.fixture(scope="module")
def server(program: Path) -> Iterator[RedisServer]:
    with running_server(program) as server:
        yield server


@pytest.fixture
async def stack(server: RedisServer, keys: LocalSigningKeys) -> AsyncIterator[AuthStack]:
    redis = connect(server.url)
    yield AuthStack(keys, RedisTokenLedger(redis), stream=EventStream(redis))
    await redis.aclose()
