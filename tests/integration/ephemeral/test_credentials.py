"""Credentials sealed for an import, in a real Redis."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from auth.ledger import LedgerClient, connect
from auth.secret import Secret
from registry.ephemeral.credential_vault import _TENANT, RedisCredentialVault
from registry.errors import StoreFailedError, StoreUnavailableError
from registry.model.imports import CredentialKind, UpstreamCredential
from storage.keys.local import LocalKeyring
from tests.support.processes import wait_until
from tests.support.redis_server import RedisServer, running_server, server_programs
from tests.support.replicated_redis import Sentinels, running

KEY = UpstreamCredential("AKIAEXAMPLE", Secret("canary-of-the-key"), CredentialKind.AWS_ACCESS_KEY)


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    with running_server(next(iter(server_programs().values()))) as running:
        yield running


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[LedgerClient]:
    client = connect(server.url)
    yield client
    await client.aclose()


@pytest.fixture
def keys(tmp_path: Path) -> LocalKeyring:
    return LocalKeyring.create(tmp_path / "keyring.json")


@pytest.mark.parametrize("credential", [KEY, UpstreamCredential("org+robot", Secret("p:ä"))])
async def test_a_credential_comes_back_as_it_was_until_it_is_forgotten(
    server: RedisServer, redis: LedgerClient, keys: LocalKeyring, credential: UpstreamCredential
) -> None:
    vault = RedisCredentialVault(redis, keys)
    wrapped = await vault.seal("job", credential)
    assert await vault.open("job", wrapped) == credential
    on_disk = b"".join(path.read_bytes() for path in server.folder.rglob("*") if path.is_file())
    assert credential.username.encode() not in on_disk
    assert b"canary" not in on_disk
    await vault.forget("job")
    with pytest.raises(StoreFailedError, match="expired"):
        await vault.open("job", wrapped)


async def test_what_an_older_server_sealed_is_a_password(redis: LedgerClient, keys: LocalKeyring) -> None:
    dek, nonce, aad = AESGCM.generate_key(256), os.urandom(12), b"crisper-credential|old"
    sealed = nonce + AESGCM(dek).encrypt(nonce, json.dumps(["robot", "s3cret"]).encode(), aad)
    await redis.set("credential:{old}", sealed)
    kek_id = await keys.current_id(_TENANT)
    wrapped = kek_id.encode() + b"\0" + await keys.wrap(kek_id, dek, aad)
    opened = await RedisCredentialVault(redis, keys).open("old", wrapped)
    assert opened == UpstreamCredential("robot", Secret("s3cret"))


async def test_a_credential_that_was_accepted_survives_a_failover(keys: LocalKeyring) -> None:
    with running(Sentinels) as sentinels:
        async with aclosing(connect(sentinels.url)) as client:
            vault = RedisCredentialVault(client, keys, replicas=1)
            wrapped = await vault.seal("job", KEY)
            sentinels.primary.process.kill9()
            wait_until(sentinels.replica_is_primary, timeout_s=30, what="the replica is promoted")
            assert await _open_patiently(vault, wrapped) == KEY
            with pytest.raises(StoreFailedError, match="could not be stored"):
                await vault.seal("other", KEY)  # no replica is left


async def _open_patiently(vault: RedisCredentialVault, wrapped: bytes) -> UpstreamCredential:
    """Retry as an import does, until the client has the new primary."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await vault.open("job", wrapped)
            except StoreUnavailableError:
                await asyncio.sleep(0.1)
