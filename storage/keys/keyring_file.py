"""The keyring file: format, permissions and atomic replacement."""

import base64
import fcntl
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.errors import KeyUnavailableError

_FORMAT = "crisper-keyring-2"
_FORMAT_1 = "crisper-keyring-1"  # the same keys for all tenants
EVERYBODY = ""
_KEY_BYTES = 32


class KeyState(StrEnum):
    """Permitted use of a key."""

    CURRENT = "current"
    DECRYPT_ONLY = "decrypt-only"
    DESTROYED = "destroyed"


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """A key-encryption key. Its bytes are empty after its destruction.

    Attributes:
        tenant: Tenant whose data keys it wraps; `EVERYBODY` for a key of the older format.
    """

    id: str
    tenant: str
    state: KeyState
    created_at: datetime
    key: bytes = field(repr=False)

    @classmethod
    def fresh(cls, tenant: str) -> Self:
        """Generate a new current key."""
        return cls(
            f"local-{secrets.token_hex(8)}",
            tenant,
            KeyState.CURRENT,
            datetime.now(UTC),
            os.urandom(_KEY_BYTES),
        )

    def cipher(self) -> AESGCM:
        """Return the cipher that wraps data keys."""
        return AESGCM(self.key)


@dataclass(frozen=True, slots=True)
class Keyring:
    """All keys of an installation. Immutable; changes return a new keyring."""

    name_key: bytes = field(repr=False)
    versions: tuple[KeyVersion, ...]

    def __post_init__(self) -> None:
        current = [version.tenant for version in self.versions if version.state is KeyState.CURRENT]
        ids = {version.id for version in self.versions}
        if (
            len(set(current)) != len(current)
            or len(ids) != len(self.versions)
            or len(self.name_key) != _KEY_BYTES
        ):
            raise ValueError(
                "a keyring needs a name key, distinct ids, and at most one current key per tenant"
            )
        for version in self.versions:
            if len(version.key) != (0 if version.state is KeyState.DESTROYED else _KEY_BYTES):
                raise ValueError("a key has 32 bytes, or none after its destruction")

    @classmethod
    def fresh(cls) -> Self:
        """Create a keyring without keys. Each tenant's key is created at its first use."""
        return cls(os.urandom(_KEY_BYTES), ())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the file's text. Raises ValueError, KeyError or TypeError: it is malformed.

        Keys of the older format, which serve all tenants, are kept for decryption only.
        """
        document = json.loads(text)
        older = document["format"] == _FORMAT_1
        if not older and document["format"] != _FORMAT:
            raise ValueError("this is not a keyring of a supported format")
        versions = tuple(
            KeyVersion(
                id=entry["id"],
                tenant=EVERYBODY if older else str(entry["tenant"]),
                state=_state_for_reading(entry["state"]) if older else KeyState(entry["state"]),
                created_at=datetime.fromisoformat(entry["created_at"]),
                key=base64.b64decode(entry["key"], validate=True),
            )
            for entry in document["keys"]
        )
        return cls(base64.b64decode(document["name_key"], validate=True), versions)

    def encode(self) -> str:
        """Return the file's text."""
        keys = [
            {
                "id": version.id,
                "tenant": version.tenant,
                "state": version.state.value,
                "created_at": version.created_at.isoformat(),
                "key": base64.b64encode(version.key).decode(),
            }
            for version in self.versions
        ]
        document = {"format": _FORMAT, "name_key": base64.b64encode(self.name_key).decode(), "keys": keys}
        return json.dumps(document, indent=2) + "\n"

    def current(self, tenant: str) -> KeyVersion | None:
        """Return a tenant's current key, or None."""
        mine = (version for version in self.versions if version.tenant == tenant)
        return next((version for version in mine if version.state is KeyState.CURRENT), None)

    def get(self, kek_id: str) -> KeyVersion | None:
        """Return a key by its id, or None."""
        return next((version for version in self.versions if version.id == kek_id), None)

    def rotated(self, tenant: str) -> Self:
        """Return a keyring with a new current key for a tenant."""
        current = self.current(tenant)
        older = tuple(
            replace(version, state=KeyState.DECRYPT_ONLY) if version is current else version
            for version in self.versions
        )
        return replace(self, versions=(*older, KeyVersion.fresh(tenant)))

    def without(self, tenant: str) -> Self:
        """Return a keyring in which all keys of a tenant are erased."""
        return replace(
            self,
            versions=tuple(
                replace(version, state=KeyState.DESTROYED, key=b"") if version.tenant == tenant else version
                for version in self.versions
            ),
        )


class KeyringFile:
    """Keyring file on disk. All methods block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None

    def read(self) -> Keyring:
        """Check the file's owner and permissions, and read it. Raises KeyUnavailableError."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise KeyUnavailableError(f"keyring {self.path} cannot be opened: {error.strerror}") from None
        with os.fdopen(fd, encoding="ascii") as file:
            status = os.fstat(fd)
            self._check(status)
            try:
                keyring = Keyring.parse(file.read())
            except (ValueError, KeyError, TypeError):
                # Omit the cause, because it could quote the text.
                raise KeyUnavailableError(
                    f"keyring {self.path} is malformed: restore it from a backup"
                ) from None
        self._seen = _identity(status)
        return keyring

    def has_changed(self) -> bool:
        """Return whether the file was replaced since the last read. Raises KeyUnavailableError."""
        try:
            return _identity(self.path.lstat()) != self._seen
        except OSError as error:
            raise KeyUnavailableError(f"keyring {self.path} cannot be read: {error.strerror}") from None

    def create(self, keyring: Keyring) -> None:
        """Write a new file. Never replaces an existing one. Raises KeyUnavailableError."""
        self._write(keyring, replacing=False)

    def replace(self, keyring: Keyring) -> None:
        """Replace the file atomically. Raises KeyUnavailableError."""
        self._write(keyring, replacing=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the keyring against changes by other processes."""
        try:
            fd = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise KeyUnavailableError(f"keyring {self.path} cannot be locked: {error.strerror}") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _check(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise KeyUnavailableError(f"keyring {self.path} is not a regular file")
        if status.st_uid != os.geteuid():
            raise KeyUnavailableError(
                f"keyring {self.path} belongs to another user: change its owner to the server's user (chown)"
            )
        if status.st_mode & 0o077:
            raise KeyUnavailableError(
                f"other users can read the keyring {self.path}: run `chmod 600 {self.path}`"
            )

    def _write(self, keyring: Keyring, *, replacing: bool) -> None:
        temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        try:
            self._write_durably(temporary, keyring.encode().encode("ascii"))
            if replacing:
                temporary.rename(self.path)
            else:
                os.link(temporary, self.path)
            self._fsync_folder()
        except FileExistsError:
            raise KeyUnavailableError(
                f"keyring {self.path} already exists: use it, or choose another path"
            ) from None
        except OSError as error:
            raise KeyUnavailableError(f"keyring {self.path} cannot be written: {error.strerror}") from None
        finally:
            with suppress(OSError):
                temporary.unlink()

    def _write_durably(self, path: Path, data: bytes) -> None:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            self._seen = _identity(os.fstat(file.fileno()))

    def _fsync_folder(self) -> None:
        fd = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_mtime_ns, status.st_size


def _state_for_reading(state: str) -> KeyState:
    found = KeyState(state)
    return KeyState.DECRYPT_ONLY if found is KeyState.CURRENT else found
