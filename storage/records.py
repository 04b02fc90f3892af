"""Key records, which say which tenant can open which blob, and the ports that store them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from storage.digest import Digest


@dataclass(frozen=True, slots=True, order=True)
class KeyUse:
    """Numbers of a tenant's data keys and of its other secrets under one key-encryption key."""

    tenant: str
    kek_id: str
    records: int
    secrets: int = 0


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """Access of one tenant to one blob. Useless without the key-encryption key.

    Attributes:
        digest: Digest of the plaintext.
        file_id: 16 random bytes, from the container's header.
        object_name: Name of the container in the backend; of its ciphertext, if the format is OEB2.
        size_bytes: Length of the plaintext.
        stored_bytes: Length of the container: of both its objects, if the format is OEB2.
        wrapped_dek: Data key, wrapped with the key `kek_id` and the AAD of docs/blob-format.md.
        sidecar_name: Name of the container's second object; None if the format is OEB1.
        ciphertext: Digest of the ciphertext; None if the format is OEB1 or the container is unfinished.
    """

    tenant: str
    digest: Digest
    file_id: bytes
    object_name: str
    size_bytes: int
    stored_bytes: int
    kek_id: str
    wrapped_dek: bytes
    sidecar_name: str | None = None
    ciphertext: Digest | None = None

    @property
    def deliverable(self) -> bool:
        """Whether the ciphertext can be delivered to nodes: the format is OEB2."""
        return self.sidecar_name is not None

    @property
    def objects(self) -> Mapping[str, int]:
        """Names of the container's objects, with their lengths."""
        if self.sidecar_name is None:
            return {self.object_name: self.stored_bytes}
        return {self.object_name: self.size_bytes, self.sidecar_name: self.stored_bytes - self.size_bytes}


class KeyRecords(Protocol):
    """Store of key records, with tenant and digest as the key.

    Reads see every completed write of all processes.
    """

    async def get(self, tenant: str, digest: Digest) -> KeyRecord | None:
        """Return a tenant's record for a digest, unless its object is in quarantine."""

    async def find(self, digest: Digest, *, deliverable: bool = False) -> KeyRecord | None:
        """Return the record of any tenant for a digest whose object is not in quarantine.

        Args:
            deliverable: Consider only deliverable records.
        """

    async def add(self, record: KeyRecord, replaces: KeyRecord | None = None) -> KeyRecord:
        """Insert a record unless (tenant, digest) has one. Returns the stored record.

        Replaces a record whose object is in quarantine, and atomically the record `replaces`, also if it was
        rewrapped meanwhile.

        Raises:
            StorageUnavailableError: Garbage collection removed the object before its record was inserted.
                Store the blob again.
        """

    async def remove(self, tenant: str, digest: Digest) -> KeyRecord | None:
        """Delete a record, so that the tenant can no longer open the blob. Returns the record, or None."""

    async def as_of(self, tenant: str, digests: Sequence[Digest], at: float) -> Mapping[Digest, KeyRecord]:
        """Return the records that were current at a time: also those that were replaced since.

        Args:
            at: Seconds since 1970.

        Returns:
            Records by digest, without those whose object is in quarantine.
        """

    async def retired(self, tenant: str, digest: Digest, ciphertext: Digest) -> KeyRecord | None:
        """Return a replaced record by the digest of its ciphertext, or None."""

    async def damaged(self, tenant: str, digest: Digest) -> bool:
        """Return whether the tenant has a record whose object is in quarantine."""

    async def uses(self, object_name: str) -> int:
        """Count the records that refer to an object, also as their sidecar."""

    async def census(self) -> list[KeyUse]:
        """Count the records of each tenant and key-encryption key, ordered by both."""

    async def page(self, tenant: str, kek_id: str, after: str, limit: int) -> list[KeyRecord]:
        """Return a tenant's records under one key, ordered by digest, with digests above `after`."""

    async def replace(self, changes: Sequence[tuple[KeyRecord, KeyRecord]]) -> int:
        """Replace each record (old, new) if it still equals the old one. Returns the number replaced."""


@dataclass(frozen=True, slots=True)
class WrappedSecret:
    """A secret of a tenant other than a blob's data key, wrapped with the key `kek_id`."""

    tenant: str
    kek_id: str
    wrapped: bytes
    aad: bytes


class WrappedSecrets(Protocol):
    """Store of wrapped secrets, a few for each tenant."""

    async def all(self) -> Sequence[WrappedSecret]:
        """Return the secrets of all tenants."""

    async def replace(self, old: WrappedSecret, new: WrappedSecret) -> bool:
        """Replace a secret if it still equals the old one."""

    async def remove(self, tenant: str) -> None:
        """Delete a tenant's secrets, because their keys were destroyed."""


class Partials(Protocol):
    """Store of key records for unfinished containers, so that ingests can be resumed (docs/adr/0040).

    There is one per tenant and digest; its `stored_bytes` is 0. A lost record costs only a transfer, so
    methods do not fail if the catalog does not answer.
    """

    async def get(self, tenant: str, digest: Digest) -> KeyRecord | None:
        """Return the record of a tenant's unfinished container, or None."""

    async def put(self, record: KeyRecord) -> None:
        """Record an unfinished container. Replaces an earlier record."""

    async def drop(self, record: KeyRecord) -> None:
        """Delete a record after its container was finished or discarded."""

    async def wanted(self) -> Collection[str]:
        """Delete records that are old or not needed by a pending import. Returns the other object names."""
