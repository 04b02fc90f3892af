import asyncio

import pytest

from storage.backends.memory import MemoryBackend
from storage.blobs import BlobStore
from storage.errors import KeyUnavailableError
from storage.keys.keyring_file import KeyringFile
from storage.keys.local import LocalKeyring
from storage.read.unlocking import DataKeys, Unlocker
from storage.threads import Threads
from tests.support.blobs import put
from tests.support.containers import noise


class CountingKeys(LocalKeyring):
    """A keyring that counts how often it is asked."""

    unwrapped = 0

    async def unwrap(self, kek_id: str, wrapped: bytes, aad: bytes) -> bytes:
        self.unwrapped += 1
        await asyncio.sleep(0)
        return await super().unwrap(kek_id, wrapped, aad)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def keys(keyring: LocalKeyring) -> CountingKeys:
    return CountingKeys(KeyringFile(keyring._file.path))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def unlocker(store: BlobStore, backend: MemoryBackend, keys: CountingKeys, clock: Clock) -> Unlocker:
    threads = Threads(store._executor)
    return Unlocker(backend, DataKeys(keys), threads, capacity=2, lifetime_s=300, now=clock)


async def test_a_key_is_unwrapped_once_for_all_who_wait_and_for_five_minutes(
    store: BlobStore, unlocker: Unlocker, keys: CountingKeys, clock: Clock
) -> None:
    record = await put(store, "acme", b"blob")
    readers = await asyncio.gather(*(unlocker.open(record) for _ in range(20)))
    for reader in readers:
        await reader.aclose()
    assert keys.unwrapped == 1
    clock.now += 299
    await (await unlocker.open(record)).aclose()
    assert keys.unwrapped == 1
    clock.now += 2
    await (await unlocker.open(record)).aclose()
    assert keys.unwrapped == 2


async def test_one_waiter_that_gives_up_does_not_fail_the_others(
    store: BlobStore, unlocker: Unlocker, keys: CountingKeys
) -> None:
    record = await put(store, "acme", b"blob")
    first, second = (asyncio.create_task(unlocker.open(record)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await (await second).aclose()
    assert keys.unwrapped == 1


async def test_only_so_many_keys_are_kept_the_oldest_unused_goes_first(
    store: BlobStore, unlocker: Unlocker, keys: CountingKeys
) -> None:
    one, two, three = [await put(store, "acme", noise(10, seed)) for seed in range(3)]
    for record in (one, two, one, three, one):
        await (await unlocker.open(record)).aclose()
    assert keys.unwrapped == 3
    await (await unlocker.open(two)).aclose()
    assert keys.unwrapped == 4


async def test_a_failure_is_not_remembered(
    store: BlobStore, unlocker: Unlocker, keyring: LocalKeyring
) -> None:
    record = await put(store, "acme", b"blob")
    path = keyring._file.path
    path.rename(path.with_suffix(".away"))
    with pytest.raises(KeyUnavailableError):
        await unlocker.open(record)
    path.with_suffix(".away").rename(path)
    await (await unlocker.open(record)).aclose()


class SilentKeys(LocalKeyring):
    async def unwrap(self, kek_id: str, wrapped: bytes, aad: bytes) -> bytes:
        await asyncio.Event().wait()
        return await super().unwrap(kek_id, wrapped, aad)


async def test_a_provider_that_does_not_answer_is_given_up(store: BlobStore, keyring: LocalKeyring) -> None:
    record = await put(store, "acme", b"blob")
    with pytest.raises(KeyUnavailableError, match="in time"):
        await DataKeys(SilentKeys(keyring._file), timeout_s=0.02).unwrap(record)
