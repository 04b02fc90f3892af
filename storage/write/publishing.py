"""Which key record stands for a blob that has just been written (docs/adr/0003-unique-object-names.md)."""

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
    """Makes blobs visible and takes them away; the only writer of key records."""

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
        """Return the record that stands for a tenant who has just presented the whole blob.

        The tenant's own record stays when its object opens; else another tenant's object is linked; else
        the new object is committed. Objects that turn out superfluous stay invisible and are forgotten
        with their writer.
        """
        async with self._locks.hold(digest):
            standing = await self._records.get(tenant, digest)
            if standing is not None:
                if await self._opens(standing):
                    return standing
                await self._remove(standing)
            return await self._link(tenant, digest) or await self._commit(tenant, digest, sealed)

    async def link(self, tenant: str, digest: Digest, size_bytes: int) -> bool:
        """Let a tenant open what another tenant has; False when there is none of that size to be had."""
        async with self._locks.hold(digest):
            standing = await self._records.get(tenant, digest)
            if standing is not None and await self._opens(standing):
                return standing.size_bytes == size_bytes
            other = await self._records.find(digest)
            if standing is not None or other is None or other.size_bytes != size_bytes:
                return False
            return await self._link(tenant, digest) is not None

    async def delete(self, tenant: str, digest: Digest) -> bool:
        """Remove a tenant's record, and the object when no record uses it any more."""
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
        """Let `tenant` open the object of another tenant; None when there is none to be had."""
        other = await self._records.find(digest)
        if other is None or not await self._can_lend(other):
            return None
        key = await self._keys.unwrap(other)
        kek_id, wrapped = await self._keys.wrap(tenant, str(digest), other.file_id, key)
        ours = replace(other, tenant=tenant, kek_id=kek_id, wrapped_dek=wrapped)
        stood = await self._records.add(ours)
        if stood == ours and await self._records.get(other.tenant, digest) != other:
            # The lender's record went meanwhile. Whoever removed it may have counted the object's uses
            # before ours was there, and be about to delete it. While the lender's record still stands,
            # any later count includes ours.
            await self._records.remove(tenant, digest)
            return None
        return stood

    async def _can_lend(self, other: KeyRecord) -> bool:
        try:
            return await self._opens(other)
        except KeyUnavailableError:
            return False

    async def _commit(self, tenant: str, digest: Digest, sealed: SealedBlob) -> KeyRecord:
        """Make the new object visible, then its record.

        Whatever stops this between the two leaves an object without a record, which recovery removes;
        it is not removed here, because a record whose insertion seems to have failed may yet stand.
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
    """Name a container so that a listing of storage does not tell what is in it.

    Unique per container, so that nothing is ever overwritten (docs/blob-format.md, "object name"). A blob
    that is still being made has no digest yet, and is named by its file id alone.
    """
    named = b"" if digest is None else str(digest).encode()
    return hmac.digest(name_key, named + file_id, "sha256").hex()
