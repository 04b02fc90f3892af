"""What every `storage.records.Partials` has to keep. Subclass, and give a `partials` fixture."""

from dataclasses import replace

from storage.digest import Digest
from storage.records import KeyRecord, Partials

DIGEST = Digest.of(b"a layer")
BEGUN = KeyRecord("acme", DIGEST, bytes(16), "ab" * 32, 10**9, 0, "kek-1", b"wrapped")


class PartialsContract:
    async def test_what_was_put_comes_back_to_its_tenant_only(self, partials: Partials) -> None:
        await partials.put(BEGUN)
        assert await partials.get("acme", DIGEST) == BEGUN
        assert await partials.get("umbrella", DIGEST) is None
        assert await partials.get("acme", Digest.of(b"another")) is None

    async def test_an_unfinished_deliverable_container_comes_back(self, partials: Partials) -> None:
        begun = replace(BEGUN, sidecar_name="ef" * 32)
        await partials.put(begun)
        assert await partials.get("acme", DIGEST) == begun
        assert begun.ciphertext is None

    async def test_a_later_container_takes_the_place_of_an_earlier_one(self, partials: Partials) -> None:
        later = replace(BEGUN, object_name="cd" * 32, file_id=bytes(range(16)))
        await partials.put(BEGUN)
        await partials.put(later)
        assert await partials.get("acme", DIGEST) == later
        await partials.drop(BEGUN)
        assert await partials.get("acme", DIGEST) == later

    async def test_a_container_is_dropped_once_its_size_is_known_too(self, partials: Partials) -> None:
        await partials.put(BEGUN)
        await partials.drop(replace(BEGUN, stored_bytes=10**9 + 500))
        assert await partials.get("acme", DIGEST) is None
        await partials.drop(BEGUN)
