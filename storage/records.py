"""Key records: which tenant can open which blob, and the catalog that keeps them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from storage.digest import Digest


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
