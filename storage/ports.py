"""What storage asks of the outside: where objects lie, who holds the keys, where key records are kept."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from storage.digest import Digest


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


@dataclass(frozen=True, slots=True, order=True)
class KeyUse:
    """How many of a tenant's data keys one key-encryption key wraps."""

    tenant: str
    kek_id: str
    records: int


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """How one tenant opens one blob. Nothing here is of use without the key-encryption key.

    Attributes:
        digest: Of the plaintext.
        file_id: 16 random bytes, from the container's header.
        object_name: Where the backend keeps the container.
        size_bytes: Of the plaintext.
        stored_bytes: Of the container.
        wrapped_dek: The data key, wrapped under `kek_id` with docs/blob-format.md's AAD.
    """

    tenant: str
    digest: Digest
    file_id: bytes
    object_name: str
    size_bytes: int
    stored_bytes: int
    kek_id: str
    wrapped_dek: bytes


class KeyRecords(Protocol):
    """The catalog's table of key records, keyed by tenant and digest.

    Reads see every write that has returned, in whatever process.
    """

    async def get(self, tenant: str, digest: Digest) -> KeyRecord | None:
        """Return this tenant's record for a digest, unless its object is known to be damaged."""

    async def find(self, digest: Digest) -> KeyRecord | None:
        """Return any tenant's record for a digest whose object is not known to be damaged."""

    async def add(self, record: KeyRecord) -> KeyRecord:
        """Insert the record unless (tenant, digest) has one; return the one that stands.

        A record whose object is known to be damaged gives way. Raises StorageUnavailableError when the
        object was collected before its record was there: the blob has to be presented again.
        """

    async def remove(self, tenant: str, digest: Digest) -> KeyRecord | None:
        """Delete and return a record: the tenant can no longer open the blob."""

    async def damaged(self, tenant: str, digest: Digest) -> bool:
        """Tell whether this tenant has a record whose object is known to be damaged."""

    async def uses(self, object_name: str) -> int:
        """Count the records that refer to an object."""

    async def census(self) -> list[KeyUse]:
        """Count the records of each tenant and key-encryption key, ordered by both."""

    async def page(self, tenant: str, kek_id: str, after: str, limit: int) -> list[KeyRecord]:
        """Return a tenant's records under one key, ordered by digest, from the first one beyond `after`."""

    async def replace(self, changes: Sequence[tuple[KeyRecord, KeyRecord]]) -> int:
        """Give records another wrapped key, each only while it is still what it was; return how many."""


class Partials(Protocol):
    """Containers that were begun: what it takes to read back what a writer left (docs/adr/0040).

    One for each tenant and digest, as a key record whose `stored_bytes` is 0: there is no blob yet. Losing
    one costs a transfer and nothing else, so no method fails because the catalog does not answer.
    """

    async def get(self, tenant: str, digest: Digest) -> KeyRecord | None:
        """Return a tenant's unfinished container of a digest."""

    async def put(self, record: KeyRecord) -> None:
        """Note a container that was begun, in place of an earlier one."""

    async def drop(self, record: KeyRecord) -> None:
        """Forget a container: it is finished, or given up."""

    async def wanted(self) -> Collection[str]:
        """Forget those that no unfinished import needs or that are too old; name the objects of the rest."""


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


@dataclass(frozen=True, slots=True)
class DeadRecord:
    """A key record that nothing refers to. `stored_bytes` are its object's, which others may still use."""

    tenant: str
    digest: Digest
    object_name: str
    stored_bytes: int


class CollectionCatalog(Protocol):
    """What the catalog knows of the dead (docs/adr/0026-garbage-collection-by-marks-and-pins.md).

    Every method that condemns decides and acts in one transaction that excludes those which pin a blob,
    add a key record or make an image visible. What was condemned never comes back.
    """

    async def unknown(self, names: Sequence[str]) -> Sequence[str]:
        """Return those objects that no key record refers to."""

    async def mark(self, orphans: Sequence[str]) -> None:
        """Mark what is dead now and was not before; unmark what came back to life.

        Args:
            orphans: Every object in storage that `unknown` returned.
        """

    async def due_records(self, grace_s: float, limit: int) -> Sequence[DeadRecord]:
        """Return records that are dead, and have been marked for `grace_s`."""

    async def due_orphans(self, grace_s: float, limit: int) -> Sequence[str]:
        """Return objects that no record refers to, and that have been marked for `grace_s`."""

    async def marked(self) -> tuple[int, int]:
        """Count the records and the objects that are marked."""

    async def condemn_records(self, grace_s: float, limit: int) -> Sequence[DeadRecord]:
        """Remove due records, and condemn the objects that were only theirs; return what was removed."""

    async def condemn_orphans(self, grace_s: float, limit: int) -> int:
        """Condemn due orphans; return how many."""

    async def condemned(self, limit: int) -> Sequence[str]:
        """Return condemned objects that are not known to be removed."""

    async def bury(self, names: Sequence[str]) -> None:
        """Note that condemned objects are removed; their names stay refused for a week."""

    async def partials(self) -> Collection[str]:
        """Forget unfinished containers that nobody needs; name the objects of the rest."""

    async def remove_images(self) -> int:
        """Remove images that no version of a group has; return how many."""


class ScrubCatalog(Protocol):
    """What scrubbing asks of the catalog, and tells it."""

    async def objects_after(self, object_name: str, limit: int) -> Sequence[Sequence[KeyRecord]]:
        """Return the records of the next objects by name, those of one object together."""

    async def is_quarantined(self, object_name: str) -> bool:
        """Tell whether an object is known to be damaged."""

    async def quarantine(self, records: Sequence[KeyRecord], reason: str) -> None:
        """Take a damaged object out of service for everyone, and tell about it."""

    async def lift(self, object_name: str) -> None:
        """Put an object back into service: it verifies after all."""

    async def advance(self, object_name: str) -> None:
        """Note that everything up to this object is done."""
