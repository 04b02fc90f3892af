"""Publication of blobs: creates or reuses objects and records (docs/adr/0003-unique-object-names.md)."""

import hmac
from dataclasses import replace

from storage.digest import Digest
from storage.errors import BlobDamagedError, BlobNotFoundError, KeyUnavailableError
from storage.locks import KeyedLocks
from storage.ports import BlobBackend
from storage.read.unlocking import DataKeys, Unlocker
from storage.records import KeyRecord, KeyRecords
from storage.threads import Threads
from storage.write.ingest import SealedBlob


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

        Keeps the tenant's existing record if its object opens; otherwise links another tenant's object;
        otherwise commits the new object. An unneeded object stays invisible and is discarded with its writer.
        """
        async with self._locks.hold(digest):
            existing = await self._records.get(tenant, digest)
            if existing is not None:
                if await self._opens(existing):
                    return existing
                await self._remove(existing)
            return await self._link(tenant, digest) or await self._commit(tenant, digest, sealed)

    async def link(self, tenant: str, digest: Digest, size_bytes: int) -> bool:
        """Link a blob of another tenant. Returns False if there is no readable blob of that size."""
        async with self._locks.hold(digest):
            existing = await self._records.get(tenant, digest)
            if existing is not None and await self._opens(existing):
                return existing.size_bytes == size_bytes
            other = await self._records.find(digest)
            if existing is not None or other is None or other.size_bytes != size_bytes:
                return False
            return await self._link(tenant, digest) is not None

    async def delete(self, tenant: str, digest: Digest) -> bool:
        """Delete a tenant's record, and the object if no other record uses it."""
        async with self._locks.hold(digest):
            record = await self._records.get(tenant, digest)
            return record is not None and await self._remove(record)

    async def _remove(self, record: KeyRecord) -> bool:
        removed = await self._records.remove(record.tenant, record.digest)
        self._unlocker.forget(record)
        if removed is not None and await self._records.uses(removed.object_name) == 0:
            await self._threads.run(self._backend.delete, removed.object_name)
        return removed is not None

    async def _opens(self, record: KeyRecord) -> bool:
        try:
            async with await self._unlocker.open(record):
                return True
        except (BlobNotFoundError, BlobDamagedError):
            return False

    async def _link(self, tenant: str, digest: Digest) -> KeyRecord | None:
        """Link the object of another tenant. Returns None if there is none that opens."""
        other = await self._records.find(digest)
        if other is None or not await self._is_linkable(other):
            return None
        key = await self._keys.unwrap(other)
        kek_id, wrapped = await self._keys.wrap(tenant, str(digest), other.file_id, key)
        ours = replace(other, tenant=tenant, kek_id=kek_id, wrapped_dek=wrapped)
        stood = await self._records.add(ours)
        if stood == ours and await self._records.get(other.tenant, digest) != other:
            # The other tenant's record was removed meanwhile. The remover may have counted the object's
            # uses before our record existed, and may be about to delete the object. As long as the other
            # record exists, any later count includes ours.
            await self._records.remove(tenant, digest)
            return None
        return stood

    async def _is_linkable(self, other: KeyRecord) -> bool:
        try:
            return await self._opens(other)
        except KeyUnavailableError:
            return False

    async def _commit(self, tenant: str, digest: Digest, sealed: SealedBlob) -> KeyRecord:
        """Commit the new object, then insert its record.

        An interruption in between leaves an object without a record, which garbage collection removes. It
        is not removed here, because an insertion that seems to have failed may have succeeded.
        """
        kek_id, wrapped = await self._keys.wrap(tenant, str(digest), sealed.file_id, sealed.key)
        ours = KeyRecord(
            tenant=tenant,
            digest=digest,
            file_id=sealed.file_id,
            object_name=sealed.object_name,
            size_bytes=sealed.size_bytes,
            stored_bytes=sealed.stored_bytes,
            kek_id=kek_id,
            wrapped_dek=wrapped,
        )
        await self._threads.run(sealed.object.commit)
        stood = await self._records.add(ours)
        if stood != ours:
            await self._threads.run(self._backend.delete, ours.object_name)
        return stood


def object_name(name_key: bytes, digest: Digest | None, file_id: bytes) -> str:
    """Derive an object name that does not reveal the container's content.

    The name is unique per container, so that no object is ever overwritten (docs/blob-format.md, "object
    name"). A blob without a known digest is named by its file id alone.
    """
    named = b"" if digest is None else str(digest).encode()
    return hmac.digest(name_key, named + file_id, "sha256").hex()
