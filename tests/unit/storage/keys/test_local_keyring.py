import asyncio
import base64
import json
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.errors import KeyUnavailableError
from storage.keys.keyring_file import KeyState
from storage.keys.local import LocalKeyring
from storage.ports import KeyBinding

DEK = bytes(range(32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keyring.json"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write(path: Path, document: object) -> None:
    path.write_text(json.dumps(document))
    path.chmod(0o600)


def text(path: Path) -> str:
    return path.read_text()


def test_a_new_keyring_is_this_users_alone_and_is_never_made_twice(path: Path) -> None:
    first = LocalKeyring.create(path)
    assert mode(path) == 0o600
    with pytest.raises(KeyUnavailableError, match="already exists"):
        LocalKeyring.create(path)
    assert LocalKeyring.load(path).name_key == first.name_key
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_keyring_that_others_can_read_is_refused_with_the_fix(path: Path) -> None:
    LocalKeyring.create(path)
    path.chmod(0o640)
    with pytest.raises(KeyUnavailableError, match="chmod 600"):
        LocalKeyring.load(path)


def test_a_keyring_of_another_user_is_refused_with_the_fix(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    LocalKeyring.create(path)
    owner = path.stat().st_uid
    monkeypatch.setattr("os.geteuid", lambda: owner + 1)
    with pytest.raises(KeyUnavailableError, match="chown"):
        LocalKeyring.load(path)


def test_a_link_in_the_place_of_a_keyring_is_refused(path: Path) -> None:
    LocalKeyring.create(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(KeyUnavailableError, match="cannot be opened"):
        LocalKeyring.load(path)


def test_a_missing_keyring_is_unavailable(path: Path) -> None:
    with pytest.raises(KeyUnavailableError, match="cannot be opened"):
        LocalKeyring.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "another"},
        {"keys": None},
        {"keys": [{"id": "a"}]},
        {"name_key": "AAAA"},
        {"name_key": None},
    ],
)
def test_a_malformed_keyring_is_refused_without_quoting_it(path: Path, change: dict[str, object]) -> None:
    LocalKeyring.create(path)
    document = json.loads(path.read_text()) | change
    path.write_text(json.dumps(document))
    with pytest.raises(KeyUnavailableError, match="malformed") as caught:
        LocalKeyring.load(path)
    assert caught.value.__suppress_context__


async def test_after_a_rotation_old_keys_open_and_new_data_uses_the_new_key(path: Path) -> None:
    keyring = LocalKeyring.create(path)
    old = await keyring.current_id("acme")
    wrapped = await keyring.wrap(old, DEK, b"aad")
    new = await keyring.rotate("acme")
    assert new != old
    assert await keyring.current_id("acme") == new
    assert await keyring.unwrap(old, wrapped, b"aad") == DEK
    assert [version.state for version in keyring.versions()] == [KeyState.DECRYPT_ONLY, KeyState.CURRENT]
    assert mode(path) == 0o600


async def test_a_rotation_by_another_process_takes_effect_here(path: Path) -> None:
    serving, operating = LocalKeyring.create(path), LocalKeyring.load(path)
    new = await operating.rotate("acme")
    assert await serving.current_id("acme") == new
    wrapped = await operating.wrap(new, DEK, b"aad")
    assert await serving.unwrap(new, wrapped, b"aad") == DEK


async def test_a_destroyed_key_is_erased_from_the_file_and_opens_nothing(path: Path) -> None:
    keyring = LocalKeyring.create(path)
    old = await keyring.current_id("acme")
    wrapped = await keyring.wrap(old, DEK, b"aad")
    secret = base64.b64encode(keyring.versions()[0].key).decode()
    assert secret in text(path)
    await keyring.rotate("acme")
    await keyring.destroy("acme")
    assert secret not in text(path)
    with pytest.raises(KeyUnavailableError, match="destroyed"):
        await keyring.unwrap(old, wrapped, b"aad")


async def test_nothing_of_the_keys_is_shown_by_repr(path: Path) -> None:
    keyring = LocalKeyring.create(path)
    await keyring.current_id("acme")
    shown = repr(keyring) + repr(keyring.versions()) + repr(keyring._keyring)
    for secret in (keyring.name_key, keyring.versions()[0].key):
        assert repr(secret) not in shown
        assert secret.hex() not in shown


async def test_first_uses_at_once_by_several_processes_make_one_key(path: Path) -> None:
    LocalKeyring.create(path)
    rings = [LocalKeyring.load(path) for _ in range(8)]
    assert len(set(await asyncio.gather(*(ring.current_id("acme") for ring in rings)))) == 1


async def test_a_first_format_file_opens_and_new_data_uses_tenant_keys(
    path: Path,
) -> None:
    shared = os.urandom(32)
    document = {
        "format": "crisper-keyring-1",
        "name_key": base64.b64encode(bytes(32)).decode(),
        "keys": [
            {
                "id": "local-00000001",
                "state": "current",
                "created_at": "2026-01-01T00:00:00+00:00",
                "key": base64.b64encode(shared).decode(),
            }
        ],
    }
    write(path, document)
    nonce = os.urandom(12)
    wrapped = nonce + AESGCM(shared).encrypt(nonce, DEK, b"aad")
    keyring = LocalKeyring.load(path)
    assert await keyring.unwrap("local-00000001", wrapped, b"aad") == DEK
    assert not await keyring.is_current("acme", "local-00000001", wrapped)
    new = await keyring.current_id("acme")
    assert json.loads(text(path))["format"] == "crisper-keyring-2"
    target = KeyBinding(new, b"new aad")
    again = await keyring.rewrap(wrapped, KeyBinding("local-00000001", b"aad"), target)
    assert await LocalKeyring.load(path).unwrap(new, again, b"new aad") == DEK
    await keyring.destroy("acme")
    assert await keyring.unwrap("local-00000001", wrapped, b"aad") == DEK
    assert keyring.name_key == bytes(32)
