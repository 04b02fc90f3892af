"""Key-encryption keys in a file of this machine, for installations without a key service.

The file is JSON, 0600, owned by the user that runs the server, and lies outside the blob folder:

    {"format": "crisper-keyring-2", "name_key": "<base64>",
     "keys": [{"id": "local-3f09c2d1...", "tenant": "acme", "state": "current", "created_at": "...",
               "key": "<base64>"}, ...]}

A tenant has one `current` key, made at its first use; its others are `decrypt-only`, or `destroyed`, with
their bytes gone. A file of format 1, whose keys served every tenant, is read, and rewritten at its first
change.
Losing this file loses every blob: back it up apart from the blobs.
"""

import asyncio
import os
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag

from storage.errors import BlobDamagedError, KeyUnavailableError
from storage.keys.keyring_file import Keyring, KeyringFile, KeyState, KeyVersion
from storage.ports import KeyBinding

_NONCE_BYTES = 12


class LocalKeyring:
    """Wraps data keys with AES-256-GCM under the keys of one file.

    The file is read again when it has changed, so that a rotation by another process takes effect here.
    """

    def __init__(self, file: KeyringFile) -> None:
        self._file = file
        self._keyring = file.read()

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make a keyring. Raises KeyUnavailableError when `path` exists."""
        file = KeyringFile(path)
        file.create(Keyring.fresh())
        return cls(file)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a keyring.

        Raises:
            KeyUnavailableError: It is missing, malformed, or not this user's alone; the message says
                what to do.
        """
        return cls(KeyringFile(path))

    @property
    def name_key(self) -> bytes:
        """The key that object names are made with; never rotated, since names outlive keys."""
        return self._keyring.name_key

    def versions(self) -> list[KeyVersion]:
        """List the keys, oldest first. Blocks."""
        return list(self._fresh().versions)

    async def current_id(self, tenant: str) -> str:
        """Name the key that a tenant's new data is wrapped under; make its first one."""
        return await asyncio.to_thread(self._current_id, tenant)

    async def wrap(self, kek_id: str, dek: bytes, aad: bytes) -> bytes:
        """Encrypt a data key: 12 random bytes of nonce, ciphertext, tag."""
        version = await asyncio.to_thread(self._usable, kek_id)
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + version.cipher().encrypt(nonce, dek, aad)

    async def unwrap(self, kek_id: str, wrapped: bytes, aad: bytes) -> bytes:
        """Decrypt a data key. Raises BlobDamagedError with anything but the exact `aad`."""
        version = await asyncio.to_thread(self._usable, kek_id)
        try:
            return version.cipher().decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], aad)
        except (InvalidTag, ValueError):
            raise BlobDamagedError("a wrapped key does not authenticate") from None

    async def is_current(self, tenant: str, kek_id: str, wrapped: bytes) -> bool:  # noqa: ARG002
        """Tell whether a data key is wrapped under the tenant's current key."""
        return kek_id == await self.current_id(tenant)

    async def rewrap(self, wrapped: bytes, source: KeyBinding, target: KeyBinding) -> bytes:
        """Wrap a data key anew."""
        return await self.wrap(
            target.kek_id, await self.unwrap(source.kek_id, wrapped, source.aad), target.aad
        )

    async def rotate(self, tenant: str) -> str:
        """Make a fresh key the tenant's current one, keep the old one for reading; return the new id."""
        return await asyncio.to_thread(self._rotate, tenant)

    async def destroy(self, tenant: str) -> int:
        """Erase all keys of a tenant: what they wrap can never be opened again."""
        return await asyncio.to_thread(self._destroy, tenant)

    async def probe(self) -> None:
        """Prove that the file can be read."""
        await asyncio.to_thread(self._fresh)

    async def aclose(self) -> None:
        """Nothing to release."""

    def _current_id(self, tenant: str) -> str:
        current = self._fresh().current(tenant)
        if current is not None:
            return current.id
        with self._file.locked():
            keyring = self._file.read()
            if keyring.current(tenant) is None:
                keyring = keyring.rotated(tenant)
                self._file.replace(keyring)
            self._keyring = keyring
        return self._current_id(tenant)

    def _rotate(self, tenant: str) -> str:
        with self._file.locked():
            keyring = self._file.read().rotated(tenant)
            self._file.replace(keyring)
            self._keyring = keyring
        return keyring.versions[-1].id

    def _destroy(self, tenant: str) -> int:
        with self._file.locked():
            before = self._file.read()
            keyring = before.without(tenant)
            self._file.replace(keyring)
            self._keyring = keyring
        living = (version for version in before.versions if version.state is not KeyState.DESTROYED)
        return sum(version.tenant == tenant for version in living)

    def _fresh(self) -> Keyring:
        if self._file.has_changed():
            self._keyring = self._file.read()
        return self._keyring

    def _usable(self, kek_id: str) -> KeyVersion:
        version = self._fresh().get(kek_id)
        if version is None:
            raise KeyUnavailableError(f"key {kek_id} is not in this keyring")
        if version.state is KeyState.DESTROYED:
            raise KeyUnavailableError(f"key {kek_id} was destroyed")
        return version

    def __repr__(self) -> str:
        return f"LocalKeyring({str(self._file.path)!r})"
