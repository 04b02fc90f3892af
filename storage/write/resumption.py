"""Resumption of interrupted ingests (docs/adr/0040-resume-interrupted-transfers.md).

A container is never continued with its key (docs/blob-format.md, "keys"). Its complete segments are
decrypted, hashed and sealed again, which is fast, and only the rest of the blob is transferred. Resumed bytes
of the format OEB2 are not authenticated until the digest of the whole blob is verified. If it does not match,
the caller's next ingest starts from zero, because the earlier container is gone.
"""

from storage.digest import Digest
from storage.envelope.oeb1.opener import Unlocked, read_head
from storage.envelope.oeb1.prefix import Prefix
from storage.envelope.oeb2.prefix import Prefix as CiphertextPrefix
from storage.errors import BlobDamagedError, KeyUnavailableError, StorageUnavailableError
from storage.ports import BlobBackend, ObjectReader
from storage.read.unlocking import DataKeys
from storage.records import KeyRecord, Partials
from storage.threads import Threads
from storage.write.ingest import BlobWriter
from storage.write.sinks import BegunBlob

MIN_BYTES = 32 << 20


class Resumption:
    """Takes over the bytes of an earlier ingest of a blob, and records this one for a later ingest.

    Args:
        size_bytes: Expected size of the blob.
        segment_log2: Segment size of the store's containers.
    """

    def __init__(
        self,
        backend: BlobBackend,
        partials: Partials,
        keys: DataKeys,
        threads: Threads,
        *,
        tenant: str,
        digest: Digest,
        size_bytes: int,
        segment_log2: int,
    ) -> None:
        self._backend = backend
        self._partials = partials
        self._keys = keys
        self._threads = threads
        self._tenant = tenant
        self._digest = digest
        self._size_bytes = size_bytes
        self._segment_log2 = segment_log2
        self._ours: KeyRecord | None = None

    @property
    def announced(self) -> bool:
        """Whether a later ingest can find this one."""
        return self._ours is not None

    async def take_up(self, writer: BlobWriter) -> None:
        """Copy the complete segments of an earlier container to the writer, then delete that container.

        The earlier container and its record stay until all of it is copied, so that a crash in between loses
        nothing.
        """
        earlier = await self._partials.get(self._tenant, self._digest)
        if earlier is not None:
            reader = await self._threads.acquire(lambda: self._salvage(earlier.object_name), _close)
            if reader is not None:
                try:
                    await self._read_back(earlier, reader, writer)
                finally:
                    reader.close()
        writer.announce = self._announce

    async def end(self) -> None:
        """Delete this ingest's record: its container is finished or discarded."""
        if self._ours is not None:
            await self._partials.drop(self._ours)

    async def _announce(self, begun: BegunBlob) -> None:
        """Record the unfinished container. A crash before this loses the bytes written so far."""
        ours = KeyRecord(
            tenant=self._tenant,
            digest=self._digest,
            file_id=begun.file_id,
            object_name=begun.object_name,
            size_bytes=self._size_bytes,
            stored_bytes=0,
            kek_id="",
            wrapped_dek=b"",
            sidecar_name=begun.sidecar_name,
        )
        try:
            self._ours = await self._keys.wrap(ours, begun.key)
        except KeyUnavailableError:
            return  # the commit needs the key too, and raises the error
        await self._partials.put(self._ours)

    async def _read_back(self, earlier: KeyRecord, reader: ObjectReader, writer: BlobWriter) -> None:
        prefix = await self._unlock(earlier, reader)
        while prefix is not None and (plain := await self._threads.run(prefix.read)):
            await writer.write(plain[: self._size_bytes - writer.written_bytes])
        writer.resumed_bytes = writer.written_bytes
        await self._partials.drop(earlier)
        await self._threads.run(self._backend.discard, earlier.object_name)

    def _salvage(self, name: str) -> ObjectReader | None:
        try:
            return self._backend.salvage(name)
        except StorageUnavailableError:
            return None

    async def _unlock(self, earlier: KeyRecord, reader: ObjectReader) -> Prefix | CiphertextPrefix | None:
        """Verify the container's start. Returns None if it cannot be opened."""
        try:
            key = await self._keys.unwrap(earlier)
            if earlier.deliverable:
                return CiphertextPrefix(reader, key, file_id=earlier.file_id, segment_log2=self._segment_log2)
            head = await self._threads.run(read_head, reader)
            unlocked = Unlocked.unlock(key, head)
            return Prefix(reader, unlocked) if unlocked.header.file_id == earlier.file_id else None
        except (BlobDamagedError, KeyUnavailableError):
            return None


def _close(reader: ObjectReader | None) -> None:
    if reader is not None:
        reader.close()
