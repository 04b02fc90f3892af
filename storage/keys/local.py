"""Key-encryption keys in a file of this machine, for installations without a key service.

The file is JSON, 0600, owned by the user that runs the server, and lies outside the blob folder:

    {"format": "crisper-keyring-1", "name_key": "<base64>",
     "keys": [{"id": "local-3f09c2d1", "state": "current", "created_at": "...", "key": "<base64>"}, ...]}

Exactly one key is `current`; others are `decrypt-only`, or `destroyed`, with their bytes gone. One set of
keys serves every tenant. Losing this file loses every blob: back it up apart from the blobs.
"""

import asyncio
import os
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag

from storage.errors import BlobDamagedError, KeyUnavailableError
from storage.keys.keyring_file import Keyring, KeyringFile, KeyState, KeyVersion

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
        """Make a keyring with one fresh key. Raises KeyUnavailableError when `path` exists."""
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
        """List the keys, oldest first."""
        return list(self._fresh().versions)

    def rotate(self) -> str:
        """Make a fresh key the current one, keep the old one for reading; return the new id. Blocks."""
        with self._file.locked():
            self._keyring = self._file.read().rotated()
            self._file.replace(self._keyring)
        return self._keyring.current.id

    def destroy(self, kek_id: str) -> None:
        """Erase a key that is not current: what it wraps can never be opened again. Blocks."""
        with self._file.locked():
            self._keyring = self._file.read().without(kek_id)
            self._file.replace(self._keyring)

    async def current_id(self, tenant: str) -> str:  # noqa: ARG002 - one key set serves every tenant
        """Name the key that new data is wrapped under."""
        return (await asyncio.to_thread(self._fresh)).current.id

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

    async def probe(self) -> None:
        """Prove that the file can be read."""
        await asyncio.to_thread(self._fresh)

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
