"""What every `storage.records.KeyRecords` has to keep. Subclass, and give a `key_records` fixture."""

import asyncio
import time
from dataclasses import replace

from storage.digest import Digest
from storage.records import KeyRecord, KeyRecords, KeyUse

DIGEST = Digest.of(b"a blob")
RECORD = KeyRecord(
    tenant="acme",
    digest=DIGEST,
    file_id=bytes(range(16)),
    object_name="ab" * 32,
    size_bytes=35_000_000_000,
    stored_bytes=35_000_000_500,
    kek_id="local-00000001",
    wrapped_dek=bytes(range(60)),
)
DELIVERABLE = replace(
    RECORD,
    object_name="cd" * 32,
    sidecar_name="ef" * 32,
    ciphertext=Digest.of(b"ciphertext"),
    wrapped_dek=bytes(range(61)),
)
OTHER_TENANT = replace(RECORD, tenant="umbrella", kek_id="local-00000002", wrapped_dek=bytes(60))


class KeyRecordsContract:
    async def test_a_record_comes_back_equal_to_what_was_added(self, key_records: KeyRecords) -> None:
        assert await key_records.add(RECORD) == RECORD
        assert await key_records.get("acme", DIGEST) == RECORD

    async def test_a_deliverable_record_comes_back_equal_too(self, key_records: KeyRecords) -> None:
        assert await key_records.add(DELIVERABLE) == DELIVERABLE
        assert await key_records.get("acme", DIGEST) == DELIVERABLE
        assert DELIVERABLE.objects == {"cd" * 32: 35_000_000_000, "ef" * 32: 500}
        for name in DELIVERABLE.objects:
            assert await key_records.uses(name) == 1

    async def test_a_record_is_replaced_only_by_one_that_names_it(self, key_records: KeyRecords) -> None:
        await key_records.add(RECORD)
        assert await key_records.add(DELIVERABLE, replace(RECORD, object_name="00" * 32)) == RECORD
        rewrapped = replace(RECORD, kek_id="local-00000003", wrapped_dek=bytes(60))
        assert await key_records.replace([(RECORD, rewrapped)]) == 1
        assert await key_records.add(DELIVERABLE, RECORD) == DELIVERABLE
        assert await key_records.get("acme", DIGEST) == DELIVERABLE
        assert await key_records.uses(RECORD.object_name) == 0
        assert await key_records.add(RECORD, RECORD) == DELIVERABLE

    async def test_of_many_that_replace_a_record_one_stands(self, key_records: KeyRecords) -> None:
        await key_records.add(RECORD)
        rivals = [replace(DELIVERABLE, object_name=f"{n:064x}", sidecar_name=f"{n:063x}f") for n in range(8)]
        stood = await asyncio.gather(*(key_records.add(rival, RECORD) for rival in rivals))
        assert set(stood) == {await key_records.get("acme", DIGEST)}
        assert stood[0] in rivals

    async def test_records_are_found_as_of_a_time(self, key_records: KeyRecords) -> None:
        rekeyed = replace(DELIVERABLE, object_name="12" * 32, sidecar_name="34" * 32, file_id=bytes(16))
        asked = ("acme", [DIGEST, Digest.of(b"unknown")])
        await key_records.add(DELIVERABLE)
        await key_records.add(OTHER_TENANT)
        await asyncio.sleep(0.01)
        before = time.time()
        assert await key_records.as_of(*asked, before) == {DIGEST: DELIVERABLE}
        await asyncio.sleep(0.01)
        await key_records.add(rekeyed, DELIVERABLE)
        assert await key_records.as_of(*asked, before) == {DIGEST: DELIVERABLE}
        assert await key_records.as_of(*asked, time.time() + 1) == {DIGEST: rekeyed}
        await key_records.remove("acme", DIGEST)
        assert await key_records.as_of(*asked, before) == {}

    async def test_find_can_be_limited_to_deliverable_records(self, key_records: KeyRecords) -> None:
        await key_records.add(RECORD)
        assert await key_records.find(DIGEST, deliverable=True) is None
        theirs = replace(DELIVERABLE, tenant="umbrella")
        await key_records.add(theirs)
        assert await key_records.find(DIGEST, deliverable=True) == theirs
        assert await key_records.find(DIGEST) in (RECORD, theirs)

    async def test_one_tenant_never_sees_the_record_of_another(self, key_records: KeyRecords) -> None:
        await key_records.add(RECORD)
        assert await key_records.get("umbrella", DIGEST) is None
        assert await key_records.get("acme", Digest.of(b"another blob")) is None

    async def test_the_record_that_stands_is_kept_and_returned(self, key_records: KeyRecords) -> None:
        late = replace(RECORD, object_name="cd" * 32, file_id=bytes(16), wrapped_dek=bytes(60))
        await key_records.add(RECORD)
        assert await key_records.add(late) == RECORD
        assert await key_records.get("acme", DIGEST) == RECORD
        assert await key_records.uses(late.object_name) == 0

    async def test_of_many_that_add_at_once_all_are_told_the_same_record(
        self, key_records: KeyRecords
    ) -> None:
        rivals = [replace(RECORD, object_name=f"{n:064x}", wrapped_dek=bytes([n]) * 60) for n in range(8)]
        stood = await asyncio.gather(*(key_records.add(rival) for rival in rivals))
        assert set(stood) == {await key_records.get("acme", DIGEST)}
        assert stood[0] in rivals

    async def test_find_gives_some_tenants_record_of_the_digest(self, key_records: KeyRecords) -> None:
        assert await key_records.find(DIGEST) is None
        await key_records.add(RECORD)
        await key_records.add(OTHER_TENANT)
        assert await key_records.find(DIGEST) in (RECORD, OTHER_TENANT)
        assert await key_records.find(Digest.of(b"another blob")) is None

    async def test_uses_counts_the_records_of_an_object(self, key_records: KeyRecords) -> None:
        assert await key_records.uses(RECORD.object_name) == 0
        await key_records.add(RECORD)
        await key_records.add(OTHER_TENANT)
        assert await key_records.uses(RECORD.object_name) == 2
        await key_records.remove("acme", DIGEST)
        assert await key_records.uses(RECORD.object_name) == 1

    async def test_a_record_is_removed_once_and_only_for_its_tenant(self, key_records: KeyRecords) -> None:
        await key_records.add(RECORD)
        await key_records.add(OTHER_TENANT)
        assert await key_records.remove("acme", DIGEST) == RECORD
        assert await key_records.remove("acme", DIGEST) is None
        assert await key_records.get("acme", DIGEST) is None
        assert await key_records.get("umbrella", DIGEST) == OTHER_TENANT
        assert await key_records.find(DIGEST) == OTHER_TENANT

    async def test_digests_of_both_algorithms_are_kept_apart(self, key_records: KeyRecords) -> None:
        long = replace(RECORD, digest=Digest("sha512", "0f" * 64), object_name="ef" * 32)
        await key_records.add(RECORD)
        await key_records.add(long)
        assert await key_records.get("acme", long.digest) == long
        assert await key_records.get("acme", DIGEST) == RECORD

    async def test_the_census_counts_by_tenant_and_key(self, key_records: KeyRecords) -> None:
        assert await key_records.census() == []
        await key_records.add(RECORD)
        await key_records.add(replace(RECORD, digest=Digest.of(b"another"), object_name="cd" * 32))
        await key_records.add(OTHER_TENANT)
        assert await key_records.census() == [
            KeyUse("acme", "local-00000001", 2),
            KeyUse("umbrella", "local-00000002", 1),
        ]

    async def test_pages_go_through_one_tenants_records_under_one_key(self, key_records: KeyRecords) -> None:
        rows = [replace(RECORD, digest=Digest.of(bytes([n])), object_name=f"{n:064x}") for n in range(5)]
        for row in [*rows, OTHER_TENANT]:
            await key_records.add(row)
        rows.sort(key=lambda row: str(row.digest))
        first = await key_records.page("acme", RECORD.kek_id, "", 3)
        assert first == rows[:3]
        assert await key_records.page("acme", RECORD.kek_id, str(first[-1].digest), 3) == rows[3:]
        assert await key_records.page("acme", "local-00000002", "", 3) == []

    async def test_a_wrapped_key_is_replaced_only_while_it_is_what_it_was(
        self, key_records: KeyRecords
    ) -> None:
        await key_records.add(RECORD)
        await key_records.add(OTHER_TENANT)
        new = replace(RECORD, kek_id="local-00000003", wrapped_dek=bytes(59))
        late = replace(RECORD, kek_id="local-00000004", wrapped_dek=bytes(58))
        gone = replace(RECORD, tenant="nobody")
        assert await key_records.replace([(RECORD, new), (RECORD, late), (gone, late)]) == 1
        assert await key_records.get("acme", DIGEST) == new
        assert await key_records.get("umbrella", DIGEST) == OTHER_TENANT
