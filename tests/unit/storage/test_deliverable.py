"""Blobs whose ciphertext nodes get: what a node needs to decrypt them, and how they meet the other format."""

import asyncio
import hashlib
import hmac
import pickle
import time

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from storage.backends.memory import MemoryBackend
from storage.blobs import BlobStore
from storage.delivery_key import DeliveryKey
from storage.digest import Digest
from storage.envelope.oeb2.sealer import Sealer
from storage.errors import (
    BlobDamagedError,
    BlobMissingError,
    BlobNotFoundError,
    BlobRangeError,
    NotDeliverableError,
)
from storage.keys.local import LocalKeyring
from storage.read.reader import CiphertextReader
from storage.records import KeyRecord
from tests.support.blobs import DeliverableStore, get
from tests.support.blobs import put as put_as_the_store_does
from tests.support.containers import noise
from tests.support.key_records import MemoryKeyRecords

DATA = noise(500_000)
DIGEST = Digest.of(DATA)


@pytest.fixture
def store_type() -> type[BlobStore]:
    return BlobStore


async def put(
    store: BlobStore, tenant: str = "acme", data: bytes = DATA, *, deliverable: bool = True
) -> KeyRecord:
    async with store.ingest(tenant, Digest.of(data), len(data), deliverable=deliverable) as writer:
        await writer.write(data)
        return await writer.commit()


async def opened(store: BlobStore, tenant: str = "acme") -> CiphertextReader:
    """Open the current ciphertext."""
    record = await store.stat(tenant, DIGEST)
    assert record is not None
    assert record.ciphertext is not None
    return await store.open_ciphertext(tenant, DIGEST, record.ciphertext)


async def ciphertext_of(store: BlobStore, tenant: str = "acme") -> bytes:
    async with await opened(store, tenant) as reader:
        return b"".join([bytes(chunk) async for chunk in reader.stream(chunk_bytes=70_000)])


def decrypted(ciphertext: bytes, key: DeliveryKey) -> bytes:
    """Decrypt as ocicrypt does (blockcipher/blockcipher_aes_ctr.go)."""
    assert hmac.digest(key.symkey, ciphertext, "sha256") == key.hmac
    return Cipher(AES(key.symkey), CTR(key.nonce)).decryptor().update(ciphertext)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 65_536, 500_000])
async def test_a_node_decrypts_the_ciphertext_with_the_delivery_key(store: BlobStore, size: int) -> None:
    data = DATA[:size]
    record = await put(store, data=data)
    key = await store.delivery_key("acme", record.digest)
    assert record.ciphertext is not None
    async with await store.open_ciphertext("acme", record.digest, record.ciphertext) as reader:
        ciphertext = reader.read_at(0, reader.size_bytes)
    assert decrypted(ciphertext, key) == data
    assert (key.plaintext, key.ciphertext, key.size_bytes) == (record.digest, Digest.of(ciphertext), size)
    assert key.ciphertext == record.ciphertext
    assert key.head == hashlib.sha256(ciphertext[:4096]).digest()
    assert (len(key.symkey), len(key.nonce)) == (32, 16)


async def test_derived_secrets_are_stable_and_differ_by_purpose_and_blob(store: BlobStore) -> None:
    await put(store)
    await put(store, data=b"another")
    key, again = [await store.delivery_key("acme", DIGEST) for _ in range(2)]
    other = await store.delivery_key("acme", Digest.of(b"another"))
    assert key == again
    secrets = {key.derive(b"one"), key.derive(b"two"), other.derive(b"one"), key.symkey, key.root}
    assert len(secrets) == 5
    assert {len(secret) for secret in secrets} == {32}


async def test_secrets_are_not_in_the_repr_and_are_not_pickled(store: BlobStore) -> None:
    await put(store)
    key = await store.delivery_key("acme", DIGEST)
    shown = repr(key)
    for secret in (key.symkey, key.nonce, key.hmac, key.root):
        assert repr(secret) not in shown
        assert secret.hex() not in shown
    with pytest.raises(TypeError):
        pickle.dumps(key)


async def test_ranges_of_the_ciphertext_equal_its_slices(store: BlobStore) -> None:
    await put(store)
    whole = await ciphertext_of(store)
    async with await opened(store) as reader:
        assert reader.size_bytes == len(DATA)
        assert reader.digest == Digest.of(whole)
        assert reader.fileno() is None
        assert reader.read_at(65_000, 1000) == whole[65_000:66_000]
        assert reader.piece_end(len(DATA) - 10, 1 << 20) == len(DATA)
        with pytest.raises(BlobRangeError):
            reader.read_at(len(DATA), 1)


async def test_blobs_of_the_other_format_are_not_deliverable(store: BlobStore) -> None:
    await put(store, deliverable=False)
    assert not await store.deliverable("acme", DIGEST)
    with pytest.raises(NotDeliverableError, match="import its image again"):
        await store.delivery_key("acme", DIGEST)
    with pytest.raises(BlobNotFoundError):
        await store.open_ciphertext("acme", DIGEST, DIGEST)
    assert await get(store, "acme", DIGEST) == DATA


async def test_another_tenant_gets_neither_ciphertext_nor_key(store: BlobStore) -> None:
    record = await put(store)
    assert record.ciphertext is not None
    with pytest.raises(BlobNotFoundError):
        await store.delivery_key("umbrella", DIGEST)
    with pytest.raises(BlobNotFoundError):
        await store.open_ciphertext("umbrella", DIGEST, record.ciphertext)


async def test_ciphertext_whose_object_is_gone_is_missing_and_a_deleted_one_is_unknown(
    store: BlobStore, backend: MemoryBackend
) -> None:
    record = await put(store)
    assert record.ciphertext is not None
    kept = backend.objects.pop(record.object_name)
    with pytest.raises(BlobMissingError):
        await opened(store)
    backend.objects[record.object_name] = kept
    await store.delete("acme", DIGEST)
    with pytest.raises(BlobNotFoundError):
        await store.open_ciphertext("acme", DIGEST, record.ciphertext)


async def test_a_deliverable_blob_replaces_one_that_is_not(
    store: BlobStore, backend: MemoryBackend, records: MemoryKeyRecords
) -> None:
    old = await put(store, deliverable=False)
    assert await get(store, "acme", DIGEST) == DATA
    new = await put(store)
    assert records.rows == {("acme", DIGEST): new}
    assert new.objects.keys() == backend.objects.keys()
    assert old.object_name not in backend.objects
    assert await store.deliverable("acme", DIGEST)
    assert await get(store, "acme", DIGEST) == DATA
    assert decrypted(await ciphertext_of(store), await store.delivery_key("acme", DIGEST)) == DATA
    assert await put(store, deliverable=False) == new


async def test_a_replaced_container_stays_as_long_as_another_tenant_uses_it(
    store: BlobStore, backend: MemoryBackend
) -> None:
    old = await put(store, deliverable=False)
    await put(store, "umbrella", deliverable=False)
    new = await put(store)
    assert backend.objects.keys() == old.objects.keys() | new.objects.keys()
    assert await get(store, "umbrella", DIGEST) == DATA
    assert (await put(store, "umbrella")).objects == new.objects
    assert backend.objects.keys() == new.objects.keys()


async def test_a_cached_record_does_not_hide_that_a_blob_became_deliverable(store: BlobStore) -> None:
    await put(store, "umbrella", deliverable=False)
    await put(store, deliverable=False)  # the same container, which stays
    assert await get(store, "acme", DIGEST) == DATA
    await put(store)
    assert decrypted(await ciphertext_of(store), await store.delivery_key("acme", DIGEST)) == DATA


async def test_only_deliverable_blobs_are_linked_where_that_is_asked(
    store: BlobStore, backend: MemoryBackend
) -> None:
    await put(store, deliverable=False)
    assert not await store.link("umbrella", DIGEST, len(DATA), deliverable=True)
    assert await store.link("umbrella", DIGEST, len(DATA))
    assert not await store.link("umbrella", DIGEST, len(DATA), deliverable=True)
    await put(store, "initech")
    assert await store.link("umbrella", DIGEST, len(DATA), deliverable=True)
    assert await store.deliverable("umbrella", DIGEST)
    assert await ciphertext_of(store, "umbrella") == await ciphertext_of(store, "initech")
    assert await store.delivery_key("umbrella", DIGEST) == await store.delivery_key("initech", DIGEST)
    assert not await store.link("umbrella", DIGEST, len(DATA) + 1, deliverable=True)
    for tenant in ("acme", "umbrella", "initech"):
        await store.delete(tenant, DIGEST)
    assert backend.objects == {}


@pytest.mark.parametrize("part", ["object_name", "sidecar_name"])
async def test_a_container_that_lost_one_of_its_objects_is_damaged_and_replaced(
    store: BlobStore, backend: MemoryBackend, part: str
) -> None:
    first = await put(store)
    del backend.objects[getattr(first, part)]
    with pytest.raises(BlobMissingError):
        await store.open("acme", DIGEST)
    with pytest.raises(BlobDamagedError):
        await store.delivery_key("acme", DIGEST)
    again = await put(store)
    assert backend.objects.keys() == again.objects.keys()
    assert await get(store, "acme", DIGEST) == DATA


async def test_verification_finds_a_sidecar_whose_hmac_or_ciphertext_digest_is_wrong(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only a writer that holds the keys can make one: here, one that forgets bytes.
    with monkeypatch.context() as careless:
        careless.setattr(Sealer, "authenticate", lambda _self, _ciphertext: None)
        await put(store)
    assert await get(store, "acme", DIGEST) == DATA
    with pytest.raises(BlobDamagedError, match="HMAC"):
        await store.verify("acme", DIGEST)


@pytest.mark.parametrize("deliverable", [False, True])
async def test_a_rekeyed_blob_has_new_ciphertext_and_keys(
    store: BlobStore, backend: MemoryBackend, records: MemoryKeyRecords, *, deliverable: bool
) -> None:
    """What was deliverable before stays for the sessions of its time."""
    began = time.time() - 60
    old = await put(store, deliverable=deliverable)
    before = await store.delivery_key("acme", DIGEST) if deliverable else None
    new = await store.rekey("acme", DIGEST)
    assert records.rows == {("acme", DIGEST): new}
    kept = old.objects.keys() if deliverable else set()
    assert backend.objects.keys() == new.objects.keys() | kept
    assert not old.objects.keys() & new.objects.keys()
    after = await store.delivery_key("acme", DIGEST)
    assert decrypted(await ciphertext_of(store), after) == DATA == await get(store, "acme", DIGEST)
    if before is not None:
        assert not {before.symkey, before.nonce, before.root} & {after.symkey, after.nonce, after.root}
        assert before.ciphertext != after.ciphertext
        assert await store.delivery_keys("acme", [DIGEST], began) == {DIGEST: before}
        async with await store.open_ciphertext("acme", DIGEST, before.ciphertext) as reader:
            assert decrypted(reader.read_at(0, reader.size_bytes), before) == DATA
    assert await store.delivery_keys("acme", [DIGEST], time.time() + 1) == {DIGEST: after}
    with pytest.raises(BlobNotFoundError):
        await store.open_ciphertext("acme", DIGEST, Digest.of(b"another"))


async def test_a_deleted_blob_leaves_no_replaced_key(store: BlobStore, records: MemoryKeyRecords) -> None:
    await put(store)
    key = await store.delivery_key("acme", DIGEST)
    await store.rekey("acme", DIGEST)
    await store.delete("acme", DIGEST)
    assert records.replaced == []
    with pytest.raises(BlobNotFoundError):
        await store.open_ciphertext("acme", DIGEST, key.ciphertext)


async def test_rekeying_leaves_other_tenants_theirs(store: BlobStore, backend: MemoryBackend) -> None:
    old = await put(store)
    await store.link("umbrella", DIGEST, len(DATA))
    new = await store.rekey("acme", DIGEST)
    assert backend.objects.keys() == old.objects.keys() | new.objects.keys()
    assert await get(store, "umbrella", DIGEST) == await get(store, "acme", DIGEST) == DATA


async def test_a_damaged_or_deleted_blob_is_not_rekeyed_and_leaves_nothing(
    store: BlobStore, backend: MemoryBackend, records: MemoryKeyRecords
) -> None:
    with pytest.raises(BlobNotFoundError):
        await store.rekey("acme", DIGEST)
    record = await put(store)
    stored = bytearray(backend.objects[record.object_name])
    stored[300_000] ^= 1
    backend.objects[record.object_name] = bytes(stored)
    with pytest.raises(BlobDamagedError, match="segment 4"):
        await store.rekey("acme", DIGEST)
    assert records.rows == {("acme", DIGEST): record}
    assert backend.objects.keys() == record.objects.keys()


async def test_rekeying_and_reading_at_once_reads_the_blob(store: BlobStore) -> None:
    await put(store)
    for _ in range(5):
        *_, read = await asyncio.gather(
            store.rekey("acme", DIGEST), store.rekey("acme", DIGEST), get(store, "acme", DIGEST)
        )
        assert read == DATA
    await store.verify("acme", DIGEST)


async def test_ciphertext_of_the_wrong_length_is_damaged(store: BlobStore, backend: MemoryBackend) -> None:
    record = await put(store)
    backend.objects[record.object_name] += b"x"
    with pytest.raises(BlobDamagedError):
        await opened(store)


async def test_tests_of_both_formats_do_use_both(
    backend: MemoryBackend, keyring: LocalKeyring, records: MemoryKeyRecords
) -> None:
    store = DeliverableStore(backend, keyring, records, keyring.name_key)
    assert (await put_as_the_store_does(store, "acme", DATA)).deliverable
    await store.aclose()
