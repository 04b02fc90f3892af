"""The ports of storage: object backends and key providers."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol


class ObjectWriter(Protocol):
    """One object on its way in. Blocking: called from worker threads only."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes. Raises StorageFullError or StorageUnavailableError."""

    def commit(self) -> None:
        """Make the object durable and visible under its name, all or nothing. Raises ObjectExistsError."""

    def abort(self) -> None:
        """Forget what was written. Safe to call after anything, `commit` included."""

    def leave(self) -> None:
        """Stop writing, and leave what was written to `BlobBackend.salvage`, where the backend can."""


class ObjectReader(Protocol):
    """One visible object. Blocking: called from worker threads only."""

    @property
    def size_bytes(self) -> int:
        """Length of the object."""

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` from `offset`; return how much was there before the end."""

    def close(self) -> None:
        """Release the object."""


class BlobBackend(Protocol):
    """Keeps immutable objects by name. Blocking: called from worker threads only."""

    def create(self, name: str, expected_bytes: int | None = None) -> ObjectWriter:
        """Start an object that nobody sees before its commit.

        Args:
            name: 64 lower-case hex digits, never used before.
            expected_bytes: About how long it will be, where that is known.
        """

    def open(self, name: str) -> ObjectReader:
        """Open a visible object. Raises BlobNotFoundError."""

    def delete(self, name: str) -> bool:
        """Remove an object; False when there was none."""

    def names(self) -> Iterator[str]:
        """List the visible objects."""

    def salvage(self, name: str) -> ObjectReader | None:
        """Open what a writer that died, or left, had written of an object that it did not commit.

        Returns:
            None: there is nothing that can be read, or its writer lives. While the reader is open, nobody
            else salvages the object and `recover` spares it.
        """

    def discard(self, name: str) -> None:
        """Remove what `salvage` found."""

    def recover(self, keep: Collection[str] = frozenset()) -> int:
        """Remove what writers that died left behind; return how many.

        Called at any time, while writers of this process, others and other machines are at work.

        Args:
            keep: Names of unfinished objects that somebody may go on with (`Partials`).
        """

    def probe(self) -> None:
        """Prove that objects can be written and read. Raises StorageUnavailableError or StorageFullError."""


@dataclass(frozen=True, slots=True)
class KeyBinding:
    """The key that a data key is wrapped under, and what it is bound to."""

    kek_id: str
    aad: bytes


class KeyProvider(Protocol):
    """Holds key-encryption keys, one set for each tenant, and never shows them.

    Every method raises KeyUnavailableError when the key is unknown, destroyed or out of reach.
    """

    async def current_id(self, tenant: str) -> str:
        """Name the key that new data of this tenant is wrapped under; a tenant's first use makes one."""

    async def wrap(self, kek_id: str, dek: bytes, aad: bytes) -> bytes:
        """Encrypt a 32-byte data key."""

    async def unwrap(self, kek_id: str, wrapped: bytes, aad: bytes) -> bytes:
        """Decrypt a data key. Raises BlobDamagedError with anything but the exact `aad`."""

    async def is_current(self, tenant: str, kek_id: str, wrapped: bytes) -> bool:
        """Tell whether a data key is wrapped as it would be now."""

    async def rewrap(self, wrapped: bytes, source: KeyBinding, target: KeyBinding) -> bytes:
        """Wrap a data key anew. Raises BlobDamagedError with anything but the exact source."""

    async def rotate(self, tenant: str) -> str:
        """Make a fresh key the tenant's current one, keep older ones for reading; return its id."""

    async def destroy(self, tenant: str) -> int:
        """Destroy every key of a tenant, for good; return how many there were.

        What they wrap can never be opened again. The tenant's next use makes a new key.
        """

    async def probe(self) -> None:
        """Prove that the provider answers."""

    async def aclose(self) -> None:
        """Release connections."""
