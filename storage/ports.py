"""Ports of storage: object backends and key providers."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol


class ObjectWriter(Protocol):
    """Writer of one object. Methods block; call them from worker threads only."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes. Raises StorageFullError or StorageUnavailableError."""

    def commit(self) -> None:
        """Make the object durable and visible under its name, atomically. Raises ObjectExistsError."""

    def abort(self) -> None:
        """Discard an uncommitted object. Can be called at any time, also after `commit`."""

    def leave(self) -> None:
        """Stop writing, and keep the written bytes for `BlobBackend.salvage` if the backend supports it."""


class ObjectReader(Protocol):
    """Reader of one object. Methods block; call them from worker threads only."""

    @property
    def size_bytes(self) -> int:
        """Length of the object."""

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` from `offset`. Returns the number of bytes read, fewer at the end of the object."""

    def fileno(self) -> int | None:
        """Return the descriptor of a local file, for `os.sendfile`; None if the object is not one."""

    def close(self) -> None:
        """Release the object."""


class BlobBackend(Protocol):
    """Store of immutable objects by name. Methods block; call them from worker threads only."""

    def create(self, name: str, expected_bytes: int | None = None) -> ObjectWriter:
        """Start an object, which stays invisible until its commit.

        Args:
            name: 64 lower-case hex digits, never used before.
            expected_bytes: Approximate length, if known.
        """

    def open(self, name: str) -> ObjectReader:
        """Open a visible object. Raises BlobNotFoundError."""

    def delete(self, name: str) -> bool:
        """Remove an object. Returns False if there is no such object."""

    def names(self) -> Iterator[str]:
        """List the visible objects."""

    def path(self, name: str) -> str:
        """Return an object's path below the backend's folder or prefix. Does not block."""

    def signed_url(self, name: str, lifetime_s: float) -> str | None:
        """Return a URL by which anyone can read an object for a while; None if the backend has none."""

    def salvage(self, name: str) -> ObjectReader | None:
        """Open an unfinished object whose writer died or called `leave`.

        While the reader is open, no other caller can salvage the object, and `recover` keeps it.

        Returns:
            None if there is no such object, or its writer is still running.
        """

    def discard(self, name: str) -> None:
        """Remove an unfinished object that `salvage` opened."""

    def recover(self, keep: Collection[str] = frozenset()) -> int:
        """Remove unfinished objects of dead writers. Returns their number.

        Can be called at any time, while writers are active in any process and on any machine.

        Args:
            keep: Names of unfinished objects that may be resumed (`Partials`).
        """

    def probe(self) -> None:
        """Check that the storage answers, without writing.

        Raises:
            StorageUnavailableError: It does not answer.
            StorageFullError: It cannot be written.
        """

    def probe_writing(self) -> None:
        """Check that objects can be written. Raises StorageUnavailableError or StorageFullError."""


@dataclass(frozen=True, slots=True)
class KeyBinding:
    """Key-encryption key and associated data of a wrapped data key."""

    kek_id: str
    aad: bytes


class KeyProvider(Protocol):
    """Provider of key-encryption keys, with separate keys for each tenant. It never reveals them.

    All methods raise KeyUnavailableError if the provider does not answer, or the key is unknown or destroyed.
    """

    async def current_id(self, tenant: str) -> str:
        """Return the id of the tenant's current key, which wraps new data. Creates the tenant's first key."""

    async def wrap(self, kek_id: str, dek: bytes, aad: bytes) -> bytes:
        """Encrypt a 32-byte data key."""

    async def unwrap(self, kek_id: str, wrapped: bytes, aad: bytes) -> bytes:
        """Decrypt a data key. Raises BlobDamagedError: the data or `aad` do not match."""

    async def is_current(self, tenant: str, kek_id: str, wrapped: bytes) -> bool:
        """Return whether a data key is wrapped with the tenant's current key."""

    async def rewrap(self, wrapped: bytes, source: KeyBinding, target: KeyBinding) -> bytes:
        """Rewrap a data key. Raises BlobDamagedError: it does not match `source`."""

    async def rotate(self, tenant: str) -> str:
        """Create a new current key for the tenant, and keep older ones for decryption. Returns its id."""

    async def destroy(self, tenant: str) -> int:
        """Destroy all keys of a tenant for good. Returns their number.

        Data under them can never be decrypted again. The tenant's next use creates a new key.
        """

    async def probe(self) -> None:
        """Check that the provider answers."""

    async def aclose(self) -> None:
        """Release connections."""
