"""Publication of blobs: creates or reuses objects and records (docs/adr/0003-unique-object-names.md)."""

from dataclasses import replace

from storage.digest import Digest
from storage.errors import BlobDamagedError, BlobNotFoundError, KeyUnavailableError
from storage.locks import KeyedLocks
from storage.ports import BlobBackend
from storage.read.unlocking import DataKeys, Unlocker
from storage.records import KeyRecord, KeyRecords
from storage.threads import Threads
from storage.write.sinks import SealedBlob


class Publisher:
    """Publishes, links and deletes blobs. The only writer of key records."""

    def __init__(
        self,
        *,
        backend: BlobBackend,
        records: KeyRecords,
        keys: DataKeys,
        unlocker: Unlocker,
        threads: Threads,
    ) -> None:
        self._backend = backend
        self._records = records
        self._keys = keys
        self._unlocker = unlocker
        self._threads = threads
        # Keeps this process from publishing and deleting one digest at the same time.
        self._locks: KeyedLocks[Digest] = KeyedLocks()

    async def publish(self, tenant: str, digest: Digest, sealed: SealedBlob) -> KeyRecord:
        """Return the key record of a blob that the tenant has just written completely.

        Keeps the tenant's existing record if its container opens; otherwise links another tenant's
        container; otherwise commits the new one. An unneeded container stays invisible and is discarded with
        its writer. A deliverable container replaces an existing one that is not.
        """
        async with self._locks.hold(digest):
            existing = await self._records.get(tenant, digest)
            if existing is not None and not await self._opens(existing):
                await self._remove(existing)
                existing = None
            if existing is not None and existing.deliverable >= sealed.deliverable:
                return existing
            linked = await self._link(tenant, digest, existing, deliverable=sealed.deliverable)
            return linked or await self._commit(tenant, digest, sealed, existing)

    async def replace_container(self, tenant: str, digest: Digest, sealed: SealedBlob) -> KeyRecord:
        """Replace the tenant's record by that of a new container, which is committed.

        Raises:
            BlobNotFoundError: The tenant's blob was deleted meanwhile.
        """
        async with self._locks.hold(digest):
            existing = await self._records.get(tenant, digest)
            if existing is None:
                raise BlobNotFoundError(f"this tenant has no blob {digest}")
            return await self._commit(tenant, digest, sealed, existing)

    async def link(self, tenant: str, digest: Digest, size_bytes: int, *, deliverable: bool = False) -> bool:
        """Link a blob of another tenant. Returns False if there is no readable blob of that size.

        Args:
            deliverable: Link only a deliverable blob. It replaces an existing blob that is not.
        """
        async with self._locks.hold(digest):
            existing = await self._records.get(tenant, digest)
            if existing is not None and not await self._opens(existing):
                return False
            if existing is not None and existing.deliverable >= deliverable:
                return existing.size_bytes == size_bytes
            other = await self._records.find(digest, deliverable=deliverable)
            if other is None or other.size_bytes != size_bytes:
                return False
            return await self._link(tenant, digest, existing, deliverable=deliverable) is not None

    async def delete(self, tenant: str, digest: Digest) -> bool:
        """Delete a tenant's record, and the object if no other record uses it."""
        async with self._locks.hold(digest):
            record = await self._records.get(tenant, digest)
            return record is not None and await self._remove(record)

    async def _remove(self, record: KeyRecord) -> bool:
        removed = await self._records.remove(record.tenant, record.digest)
        if removed is not None:
            await self._discard(removed)
        return removed is not None

    async def _discard(self, record: KeyRecord) -> None:
        """Delete the objects of a removed record, unless another record uses them."""
        self._unlocker.forget(record)
        if await self._records.uses(record.object_name) == 0:
            for name in record.objects:
                await self._threads.run(self._backend.delete, name)

    async def _opens(self, record: KeyRecord) -> bool:
        try:
            async with await self._unlocker.open(record):
                return True
        except (BlobNotFoundError, BlobDamagedError):
            return False

    async def _link(
        self, tenant: str, digest: Digest, existing: KeyRecord | None, *, deliverable: bool
    ) -> KeyRecord | None:
        """Link the container of another tenant. Returns None if there is none that opens.

        Args:
            existing: The tenant's record that is replaced.
        """
        other = await self._records.find(digest, deliverable=deliverable)
        if other is None or not await self._is_linkable(other):
            return None
        key = await self._keys.unwrap(other)
        ours = await self._keys.wrap(replace(other, tenant=tenant), key)
        stood = await self._records.add(ours, existing)
        if stood == ours and await self._records.get(other.tenant, digest) != other:
            # The other tenant's record was removed meanwhile. The remover may have counted the object's
            # uses before our record existed, and may be about to delete the object. As long as the other
            # record exists, any later count includes ours.
            if existing is None:
                await self._records.remove(tenant, digest)
            else:
                await self._records.add(existing, ours)
            return None
        if existing is not None:
            await self._discard(existing)
        return stood

    async def _is_linkable(self, other: KeyRecord) -> bool:
        try:
            return await self._opens(other)
        except KeyUnavailableError:
            return False

    async def _commit(
        self, tenant: str, digest: Digest, sealed: SealedBlob, existing: KeyRecord | None
    ) -> KeyRecord:
        """Commit the new sidecar, if any, then the new object, then insert their record.

        An interruption in between leaves objects without a record, which garbage collection removes. They
        are not removed here, because an insertion that seems to have failed may have succeeded.

        Args:
            existing: The tenant's record that is replaced.
        """
        ours = KeyRecord(
            tenant=tenant,
            digest=digest,
            file_id=sealed.file_id,
            object_name=sealed.object_name,
            size_bytes=sealed.size_bytes,
            stored_bytes=sealed.stored_bytes,
            kek_id="",
            wrapped_dek=b"",
            sidecar_name=sealed.sidecar_name,
            ciphertext=sealed.ciphertext,
        )
        ours = await self._keys.wrap(ours, sealed.key)
        for target in filter(None, (sealed.sidecar, sealed.object)):
            await self._threads.run(target.commit)
        stood = await self._records.add(ours, existing)
        if stood != ours:
            for name in ours.objects:
                await self._threads.run(self._backend.delete, name)
        elif existing is not None:
            await self._discard(existing)
        return stood
