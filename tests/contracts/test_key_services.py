import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from storage.errors import BlobDamagedError, KeyUnavailableError
from storage.keys.aws_kms import AwsKmsKeys
from storage.keys.locate import KeyLocation
from storage.ports import KeyProvider
from tests.contracts.key_provider import AAD, DEK, KeyProviderContract
from tests.support.key_services import KMS_ENVIRONMENT, Bao, moto_kms, openbao
from tests.support.processes import free_port


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    with openbao(tmp_path_factory.mktemp("bao")) as server:
        yield server


@pytest.fixture(scope="module")
def kms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with moto_kms(tmp_path_factory.mktemp("kms")) as url:
        yield url


class TestVaultTransit(KeyProviderContract):
    @pytest.fixture
    async def provider(self, bao: Bao, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KeyProvider]:
        monkeypatch.setenv("VAULT_TOKEN", bao.token)
        provider = KeyLocation.parse(bao.url(prefix=f"crisper-{secrets.token_hex(4)}")).open()
        yield provider
        await provider.aclose()

    async def test_a_token_that_vault_does_not_know_is_unavailable(
        self, provider: KeyProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bao: Bao
    ) -> None:
        kek_id = await provider.current_id("acme")
        wrapped = await provider.wrap(kek_id, DEK, AAD)
        monkeypatch.setenv("VAULT_TOKEN", "unknown")
        with pytest.raises(KeyUnavailableError):
            await provider.unwrap(kek_id, wrapped, AAD)
        monkeypatch.delenv("VAULT_TOKEN")
        (tmp_path / "token").write_text(f"{bao.token}\n")
        monkeypatch.setenv("VAULT_TOKEN_FILE", str(tmp_path / "token"))
        assert await provider.unwrap(kek_id, wrapped, AAD) == DEK


class TestAwsKms(KeyProviderContract):
    """Over moto, which differs from KMS in two ways.

    It puts the key's id in front of a ciphertext, and looks for the key that a damaged one names; and it goes
    on opening under a key that is to be deleted, where KMS answers KMSInvalidStateException at once ("Key
    states of AWS KMS keys"): here the states are asserted instead.
    """

    refusals_of_damage = (BlobDamagedError, KeyUnavailableError)

    @pytest.fixture
    async def provider(self, kms: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KeyProvider]:
        for name, value in KMS_ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        alias = f"alias/crisper-{secrets.token_hex(4)}"
        provider = KeyLocation.parse(f"awskms://{alias}?region=us-east-1&endpoint={kms}").open()
        yield provider
        await provider.aclose()

    async def test_after_destroy_nothing_of_that_tenant_opens_and_others_go_on(
        self, provider: KeyProvider
    ) -> None:
        assert isinstance(provider, AwsKmsKeys)
        old, other = await provider.current_id("acme"), await provider.current_id("umbrella")
        new = await provider.rotate("acme")
        assert await provider.destroy("acme") == 2
        states = {
            kek_id: provider._kms.describe_key(KeyId=kek_id.removeprefix("awskms:"))["KeyMetadata"][
                "KeyState"
            ]
            for kek_id in (old, new, other)
        }
        assert states == {old: "PendingDeletion", new: "PendingDeletion", other: "Enabled"}
        assert await provider.destroy("acme") == 0

    async def test_a_tenant_whose_keys_were_destroyed_gets_a_new_key(self, provider: KeyProvider) -> None:
        old = await provider.current_id("acme")
        await provider.destroy("acme")
        new = await provider.current_id("acme")
        assert new != old
        assert await provider.unwrap(new, await provider.wrap(new, DEK, AAD), AAD) == DEK


@pytest.mark.parametrize(
    "url",
    [
        "awskms://alias/crisper?endpoint=http://127.0.0.1:{port}",
        "vault://127.0.0.1:{port}/transit?scheme=http",
    ],
)
async def test_a_service_that_does_not_listen_is_unavailable(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**KMS_ENVIRONMENT, "VAULT_TOKEN": "t", "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    provider = KeyLocation.parse(url.format(port=free_port())).open()
    with pytest.raises(KeyUnavailableError):
        await provider.current_id("acme")
    with pytest.raises(KeyUnavailableError):
        await provider.probe()
    await provider.aclose()
