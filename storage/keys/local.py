"""Key-encryption keys in a local file, for installations without a key service.

The file is JSON with mode 0600, belongs to the server's user, and is outside the blob folder:

    {"format": "crisper-keyring-2", "name_key": "<base64>",
     "keys": [{"id": "local-3f09c2d1...", "tenant": "acme", "state": "current", "created_at": "...",
               "key": "<base64>"}, ...]}

A tenant has one `current` key, created at its first use. Older keys are `decrypt-only`, or `destroyed`, which
erases their bytes. A file of format 1, whose keys serve all tenants, is converted at its first change.

Without this file, all blobs are lost. Back it up separately from the blobs.
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
    """Wraps data keys with AES-256-GCM and the keys of one file.

    The file is reloaded after a change, so that a rotation by another process takes effect.
    """

    def __init__(self, file: KeyringFile) -> None:
        self._file = file
        self._keyring = file.read()

    @classmethod
    def create(cls, path: Path) -> Self:
        """Create a keyring file. Raises KeyUnavailableError: `path` exists."""
        file = KeyringFile(path)
        file.create(Keyring.fresh())
        return cls(file)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a keyring file.

        Raises:
            KeyUnavailableError: It is missing, malformed, or other users can read it. The message says what
                to do.
        """
        return cls(KeyringFile(path))

    @property
    def name_key(self) -> bytes:
        """Key from which object names are derived. It is never rotated, because names outlive keys."""
        return self._keyring.name_key

    def versions(self) -> list[KeyVersion]:
        """List the keys, oldest first. Blocks."""
        return list(self._fresh().versions)

    async def current_id(self, tenant: str) -> str:
        """Return the id of the tenant's current key. Creates the tenant's first key."""
        return await asyncio.to_thread(self._current_id, tenant)

    async def wrap(self, kek_id: str, dek: bytes, aad: bytes) -> bytes:
        """Encrypt a data key. Returns nonce (12 random bytes), ciphertext and tag."""
        version = await asyncio.to_thread(self._usable, kek_id)
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + version.cipher().encrypt(nonce, dek, aad)

    async def unwrap(self, kek_id: str, wrapped: bytes, aad: bytes) -> bytes:
        """Decrypt a data key. Raises BlobDamagedError: the data or `aad` do not match."""
        version = await asyncio.to_thread(self._usable, kek_id)
        try:
            return version.cipher().decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], aad)
        except (InvalidTag, ValueError):
            raise BlobDamagedError("a wrapped key does not authenticate") from None

    async def is_current(self, tenant: str, kek_id: str, wrapped: bytes) -> bool:  # noqa: ARG002
        """Return whether a data key is wrapped with the tenant's current key."""
        return kek_id == await self.current_id(tenant)

    async def rewrap(self, wrapped: bytes, source: KeyBinding, target: KeyBinding) -> bytes:
        """Rewrap a data key."""
        return await self.wrap(
            target.kek_id, await self.unwrap(source.kek_id, wrapped, source.aad), target.aad
        )

    async def rotate(self, tenant: str) -> str:
        """Create a new current key for the tenant; the old one still decrypts. Returns the new id."""
        return await asyncio.to_thread(self._rotate, tenant)

    async def destroy(self, tenant: str) -> int:
        """Erase all keys of a tenant. Data under them can never be decrypted again."""
        return await asyncio.to_thread(self._destroy, tenant)

    async def probe(self) -> None:
        """Check that the file can be read."""
        await asyncio.to_thread(self._fresh)

    async def aclose(self) -> None:
        """Do nothing: there is nothing to release."""

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
            raise KeyUnavailableError(
                f"key {kek_id} is not in this keyring: restore the keyring that contains it"
            )
        if version.state is KeyState.DESTROYED:
            raise KeyUnavailableError(f"key {kek_id} was destroyed")
        return version

    def __repr__(self) -> str:
        return f"LocalKeyring({str(self._file.path)!r})"
