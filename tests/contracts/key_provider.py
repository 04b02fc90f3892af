"""What every `storage.ports.KeyProvider` has to keep. Subclass, and give a `provider` fixture."""

import pytest

from storage.errors import BlobDamagedError, KeyUnavailableError
from storage.ports import KeyBinding, KeyProvider

DEK = bytes(range(32))
AAD = b"oeb1-wrap and the rest"


class KeyProviderContract:
    refusals_of_damage: tuple[type[Exception], ...] = (BlobDamagedError,)

    async def test_a_wrapped_key_unwraps_under_the_same_aad(self, provider: KeyProvider) -> None:
        kek_id = await provider.current_id("acme")
        wrapped = await provider.wrap(kek_id, DEK, AAD)
        assert DEK not in wrapped
        assert await provider.unwrap(kek_id, wrapped, AAD) == DEK

    async def test_wrapping_twice_never_gives_the_same_bytes(self, provider: KeyProvider) -> None:
        kek_id = await provider.current_id("acme")
        assert await provider.wrap(kek_id, DEK, AAD) != await provider.wrap(kek_id, DEK, AAD)

    @pytest.mark.parametrize("aad", [b"", AAD[:-1], AAD + b"\0", b"oeb1-wrap of another"])
    async def test_another_aad_is_refused(self, provider: KeyProvider, aad: bytes) -> None:
        kek_id = await provider.current_id("acme")
        wrapped = await provider.wrap(kek_id, DEK, AAD)
        with pytest.raises(BlobDamagedError):
            await provider.unwrap(kek_id, wrapped, aad)

    async def test_a_wrapped_key_that_was_changed_or_cut_is_refused(self, provider: KeyProvider) -> None:
        kek_id = await provider.current_id("acme")
        wrapped = await provider.wrap(kek_id, DEK, AAD)
        flipped = [wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1 :] for at in range(len(wrapped))]
        for bad in [*flipped, b"", wrapped[:4], wrapped[:-1], wrapped + b"\0"]:
            with pytest.raises(self.refusals_of_damage):
                await provider.unwrap(kek_id, bad, AAD)

    async def test_an_unknown_key_is_unavailable(self, provider: KeyProvider) -> None:
        with pytest.raises(KeyUnavailableError):
            await provider.wrap("no-such-key", DEK, AAD)
        with pytest.raises(KeyUnavailableError):
            await provider.unwrap("no-such-key", bytes(60), AAD)

    async def test_a_provider_that_works_answers_its_probe(self, provider: KeyProvider) -> None:
        await provider.probe()

    async def test_each_tenant_has_keys_of_its_own(self, provider: KeyProvider) -> None:
        acme, umbrella = await provider.current_id("acme"), await provider.current_id("umbrella")
        assert acme != umbrella
        assert await provider.current_id("acme") == acme
        wrapped = await provider.wrap(acme, DEK, AAD)
        with pytest.raises((BlobDamagedError, KeyUnavailableError)):
            await provider.unwrap(umbrella, wrapped, AAD)

    async def test_after_a_rotation_old_keys_open_until_they_are_rewrapped(
        self, provider: KeyProvider
    ) -> None:
        old = await provider.current_id("acme")
        other = await provider.current_id("umbrella")
        wrapped = await provider.wrap(old, DEK, AAD)
        assert await provider.is_current("acme", old, wrapped)
        new = await provider.rotate("acme")
        assert new == await provider.current_id("acme")
        assert not await provider.is_current("acme", old, wrapped)
        assert await provider.unwrap(old, wrapped, AAD) == DEK
        aad = AAD if new == old else b"oeb1-wrap under the new key"
        again = await provider.rewrap(wrapped, KeyBinding(old, AAD), KeyBinding(new, aad))
        assert again != wrapped
        assert await provider.is_current("acme", new, again)
        assert await provider.unwrap(new, again, aad) == DEK
        assert await provider.current_id("umbrella") == other

    async def test_another_aad_is_not_rewrapped(self, provider: KeyProvider) -> None:
        old = await provider.current_id("acme")
        wrapped = await provider.wrap(old, DEK, AAD)
        binding = KeyBinding(await provider.rotate("acme"), AAD[:-1])
        with pytest.raises(BlobDamagedError):
            await provider.rewrap(wrapped, KeyBinding(old, AAD[:-1]), binding)

    async def test_after_destroy_nothing_of_that_tenant_opens_and_others_go_on(
        self, provider: KeyProvider
    ) -> None:
        old, other = await provider.current_id("acme"), await provider.current_id("umbrella")
        before = await provider.wrap(old, DEK, AAD)
        new = await provider.rotate("acme")
        after = await provider.wrap(new, DEK, AAD)
        kept = await provider.wrap(other, DEK, AAD)
        assert await provider.destroy("acme") == len({old, new})
        for kek_id, wrapped in ((old, before), (new, after)):
            with pytest.raises(KeyUnavailableError):
                await provider.unwrap(kek_id, wrapped, AAD)
            with pytest.raises(KeyUnavailableError):
                await provider.rewrap(wrapped, KeyBinding(kek_id, AAD), KeyBinding(other, AAD))
        assert await provider.unwrap(other, kept, AAD) == DEK
        assert await provider.destroy("acme") == 0

    async def test_a_tenant_whose_keys_were_destroyed_gets_a_new_key(self, provider: KeyProvider) -> None:
        old = await provider.current_id("acme")
        before = await provider.wrap(old, DEK, AAD)
        await provider.destroy("acme")
        new = await provider.current_id("acme")
        assert await provider.unwrap(new, await provider.wrap(new, DEK, AAD), AAD) == DEK
        with pytest.raises((KeyUnavailableError, BlobDamagedError)):
            await provider.unwrap(old, before, AAD)
