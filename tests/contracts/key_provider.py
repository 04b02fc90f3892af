"""What every `storage.ports.KeyProvider` has to keep. Subclass, and give a `provider` fixture."""

import pytest

from storage.errors import BlobDamagedError, KeyUnavailableError
from storage.ports import KeyProvider

DEK = bytes(range(32))
AAD = b"oeb1-wrap and the rest"


class KeyProviderContract:
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
            with pytest.raises(BlobDamagedError):
                await provider.unwrap(kek_id, bad, AAD)

    async def test_an_unknown_key_is_unavailable(self, provider: KeyProvider) -> None:
        with pytest.raises(KeyUnavailableError):
            await provider.wrap("no-such-key", DEK, AAD)
        with pytest.raises(KeyUnavailableError):
            await provider.unwrap("no-such-key", bytes(60), AAD)

    async def test_a_provider_that_works_answers_its_probe(self, provider: KeyProvider) -> None:
        await provider.probe()
