"""Short-lived state in Redis and in memory keeps the same contracts."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from auth.ledger import LedgerClient, connect
from registry.ephemeral.credential_vault import RedisCredentialVault
from registry.ephemeral.portal_sessions import RedisPortalSessions
from registry.ephemeral.progress import RedisProgressStore
from storage.keys.local import LocalKeyring
from tests.contracts.ephemeral import (
    CredentialVaultContract,
    ProgressStoreContract,
    SessionStoreContract,
)
from tests.support.memory_ports import (
    MemoryCredentialVault,
    MemoryPortalSessions,
    MemoryProgressStore,
)
from tests.support.redis_server import RedisServer, running_server, server_programs


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running_server(next(iter(server_programs().values()))) as running:
        yield running


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[LedgerClient]:
    client = connect(server.url)
    await client.flushall()
    yield client
    await client.aclose()


class TestRedisCredentialVault(CredentialVaultContract):
    @pytest.fixture
    def vault(self, redis: LedgerClient, tmp_path: Path) -> RedisCredentialVault:
        return RedisCredentialVault(redis, LocalKeyring.create(tmp_path / "keyring.json"))


class TestMemoryCredentialVault(CredentialVaultContract):
    @pytest.fixture
    def vault(self) -> MemoryCredentialVault:
        return MemoryCredentialVault()


class TestRedisProgressStore(ProgressStoreContract):
    @pytest.fixture
    def board(self, redis: LedgerClient) -> RedisProgressStore:
        return RedisProgressStore(redis)


class TestMemoryProgressStore(ProgressStoreContract):
    @pytest.fixture
    def board(self) -> MemoryProgressStore:
        return MemoryProgressStore()


class TestRedisPortalSessions(SessionStoreContract):
    @pytest.fixture
    def sessions(self, redis: LedgerClient) -> RedisPortalSessions:
        return RedisPortalSessions(redis, ttl_s=600)


class TestMemoryPortalSessions(SessionStoreContract):
    @pytest.fixture
    def sessions(self) -> MemoryPortalSessions:
        return MemoryPortalSessions()
