"""Rotation, rewrapping and shredding while blobs are read."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest

from storage.backends.memory import MemoryBackend
from storage.blobs import BlobStore
from storage.digest import Digest
from storage.errors import BlobNotFoundError, KeyUnavailableError
from storage.keys.keyring_file import KeyringFile
from storage.keys.local import LocalKeyring
from storage.read.recent import LIFETIME_S
from storage.records import KeyUse, WrappedSecret
from storage.upkeep.rewrapping import KeyManager, Rewrapped, Shredded
from tests.support.blobs import get, put
from tests.support.key_records import MemoryKeyRecords

# The full figure of the acceptance is run with CRISPER_TEST_KEYS=10000.
KEYS = int(os.environ.get("CRISPER_TEST_KEYS", "300"))


class MemorySecrets:
    """Wrapped secrets in memory."""

    def __init__(self) -> None:
        self.kept: list[WrappedSecret] = []

    async def all(self) -> list[WrappedSecret]:
        return list(self.kept)

    async def replace(self, old: WrappedSecret, new: WrappedSecret) -> bool:
        self.kept[self.kept.index(old)] = new
        return True

    async def remove(self, tenant: str) -> None:
        self.kept = [secret for secret in self.kept if secret.tenant != tenant]


@pytest.fixture
def manager(keyring: LocalKeyring, records: MemoryKeyRecords) -> KeyManager:
    """As the command line has it: beside the server, with a keyring that it opened itself."""
    return KeyManager(LocalKeyring(KeyringFile(keyring._file.path)), records, MemorySecrets())


async def fill(store: BlobStore, tenant: str, count: int) -> list[Digest]:
    return [(await put(store, tenant, f"{tenant} {n}".encode())).digest for n in range(count)]


async def test_no_read_fails_while_keys_are_rotated_and_rewrapped(
    backend: MemoryBackend, keyring: LocalKeyring, records: MemoryKeyRecords, manager: KeyManager
) -> None:
    seconds = [0.0]
    store = BlobStore(backend, keyring, records, keyring.name_key, segment_log2=16, now=lambda: seconds[0])
    blobs = await fill(store, "acme", KEYS)
    old = {row.kek_id for row in records.rows.values()}
    reads, running = 0, True

    async def pull(step: int) -> None:
        nonlocal reads
        at = 0
        while running:
            at = (at + step) % KEYS
            assert await get(store, "acme", blobs[at]) == f"acme {at}".encode()
            reads += 1

    pulls = [asyncio.create_task(pull(step)) for step in (1, 7, 31)]
    seen: list[Rewrapped] = []
    await manager.rotate()
    done = await manager.rewrap(seen.append)
    running = False
    await asyncio.gather(*pulls)
    assert (done.seen, done.changed, done.damaged) == (KEYS, KEYS, 0)
    assert seen[-1] == done
    assert reads > 10
    assert old.isdisjoint(row.kek_id for row in records.rows.values())
    for at, digest in enumerate(blobs):
        assert await get(store, "acme", digest) == f"acme {at}".encode()

    assert await manager.shred("acme") == Shredded(keys=2, records=KEYS)
    unaware = BlobStore(backend, keyring, records, keyring.name_key, segment_log2=16)
    await assert_gone(unaware, blobs)
    seconds[0] += LIFETIME_S  # the longest that a process goes on with what it read
    await assert_gone(store, blobs)
    for each in (unaware, store):
        await each.aclose()


async def assert_gone(store: BlobStore, blobs: Sequence[Digest]) -> None:
    for digest in blobs:
        with pytest.raises(BlobNotFoundError):
            await get(store, "acme", digest)


async def test_a_rewrap_that_was_stopped_goes_on_where_it_was(
    store: BlobStore, records: MemoryKeyRecords, manager: KeyManager
) -> None:
    blobs = await fill(store, "acme", 250)
    await manager.rotate(["acme"])

    def stop(_done: Rewrapped) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await manager.rewrap(stop)
    assert [current for _, current in await manager.status()].count(True) == 1
    assert (await manager.rewrap()).changed == 150
    assert (await manager.rewrap()).changed == 0
    assert len({row.kek_id for row in records.rows.values()}) == 1
    assert await get(store, "acme", blobs[-1]) == b"acme 249"


async def test_shredding_disables_copied_records_but_not_other_tenants(
    backend: MemoryBackend,
    keyring: LocalKeyring,
    records: MemoryKeyRecords,
    store: BlobStore,
    manager: KeyManager,
) -> None:
    data = os.urandom(100_000)
    ours, theirs = await put(store, "acme", data), await put(store, "umbrella", data)
    assert ours.object_name == theirs.object_name
    backup = dict(records.rows)
    assert await manager.shred("acme") == Shredded(keys=1, records=1)
    with pytest.raises(BlobNotFoundError):
        await store.open("acme", ours.digest)
    assert await get(store, "umbrella", theirs.digest) == data

    records.rows = backup
    restarted = BlobStore(backend, keyring, records, keyring.name_key, segment_log2=16)
    with pytest.raises(KeyUnavailableError):
        await restarted.open("acme", ours.digest)
    await restarted.aclose()
    assert await manager.shred("acme") == Shredded(keys=0, records=1)


async def test_a_damaged_record_is_counted_and_left_alone(
    store: BlobStore, records: MemoryKeyRecords, manager: KeyManager
) -> None:
    await fill(store, "acme", 3)
    key, row = next(iter(records.rows.items()))
    bad = records.rows[key] = replace(
        row, wrapped_dek=row.wrapped_dek[:-1] + bytes([row.wrapped_dek[-1] ^ 1])
    )
    await manager.rotate()
    done = await manager.rewrap()
    assert (done.changed, done.damaged) == (2, 1)
    assert records.rows[key] == bad


async def test_a_record_that_changes_under_the_rewrap_is_not_overwritten(
    store: BlobStore, records: MemoryKeyRecords, manager: KeyManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store, "acme", 2)
    await manager.rotate()
    genuine: Callable[..., Awaitable[int]] = records.replace

    async def replace_late(changes: object) -> int:
        records.rows.pop(next(iter(records.rows)))
        return await genuine(changes)

    monkeypatch.setattr(records, "replace", replace_late)
    assert (await manager.rewrap()).changed == 1
    assert len(records.rows) == 1


async def test_secrets_are_rewrapped_counted_and_shredded_like_data_keys(
    keyring: LocalKeyring, records: MemoryKeyRecords
) -> None:
    secrets, aad = MemorySecrets(), b"a binding"
    manager = KeyManager(keyring, records, secrets)
    old = await keyring.current_id("acme")
    for damage in (0, 1):
        wrapped = bytearray(await keyring.wrap(old, bytes(32), aad))
        wrapped[-1] ^= damage
        secrets.kept.append(WrappedSecret("acme", old, bytes(wrapped), aad))
    damaged = secrets.kept[1]
    assert await manager.status() == [(KeyUse("acme", old, 0, 2), True)]

    new = (await manager.rotate())["acme"]
    done = await manager.rewrap()
    assert (done.total, done.seen, done.changed, done.damaged) == (2, 2, 1, 1)
    assert secrets.kept[1] == damaged
    assert secrets.kept[0].kek_id == new
    assert await keyring.unwrap(new, secrets.kept[0].wrapped, aad) == bytes(32)

    assert await manager.shred("acme") == Shredded(keys=2, records=0)
    assert secrets.kept == []
