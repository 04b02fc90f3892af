"""Scrubbing: verifies all objects at a limited rate, to find damage before a pull does.

See docs/operations.md, "scrubbing".
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from storage.blobs import BlobStore
from storage.errors import BlobDamagedError, BlobNotFoundError, KeyUnavailableError
from storage.records import KeyRecord
from storage.upkeep.catalog import ScrubCatalog

_PAGE = 100
_RETRY_S = 1.0


@dataclass(slots=True)
class Scrubbed:
    """Result of a run.

    Attributes:
        objects: Objects read, to their end or to the first damage.
        bytes: Verified plaintext bytes.
        damaged: Damaged or missing objects, including those already in quarantine.
        lifted: Objects released from quarantine, because they verified.
        unreadable: Objects that could not be checked, because their key is unavailable.
    """

    objects: int = 0
    bytes: int = 0
    damaged: int = 0
    lifted: int = 0
    unreadable: int = 0


class Scrubber:
    """Verifies objects in the order of their names.

    Args:
        quarantine: Puts an object into quarantine, given its records and the reason.
        advance: Awaited with each checked object; the next run starts after it.
        bytes_per_s: Maximum read rate; 0 means no limit.
        check_lease: Awaited after every read; raises if the lease is lost, which ends the run.
        report: Called after every read with the result so far.
    """

    def __init__(
        self,
        blobs: BlobStore,
        catalog: ScrubCatalog,
        *,
        quarantine: Callable[[Sequence[KeyRecord], str], Awaitable[None]],
        advance: Callable[[str], Awaitable[None]],
        bytes_per_s: float,
        check_lease: Callable[[], Awaitable[None]],
        report: Callable[[Scrubbed], None] = lambda _: None,
    ) -> None:
        self._blobs = blobs
        self._catalog = catalog
        self._quarantine = quarantine
        self._advance = advance
        self._bytes_per_s = bytes_per_s
        self._check_lease = check_lease
        self._report = report
        self._began_at = 0.0

    async def run(self, after: str = "") -> Scrubbed:
        """Scrub all objects with names above `after`, the position of an interrupted run.

        Raises:
            StorageUnavailableError: Storage does not answer. The next run continues at this position.
        """
        done = Scrubbed()
        self._began_at = asyncio.get_running_loop().time()
        while objects := await self._catalog.objects_after(after, _PAGE):
            for records in objects:
                await self._object(records, done)
                after = records[0].object_name
                await self._advance(after)
        return done

    async def _object(self, records: Sequence[KeyRecord], done: Scrubbed) -> None:
        done.objects += 1
        name = records[0].object_name
        reason = await self._damage(records, done)
        if reason is None:
            done.unreadable += 1
        elif reason:
            done.damaged += 1
            await self._quarantine(records, reason)
        elif await self._catalog.is_quarantined(name):
            done.lifted += 1
            await self._catalog.lift(name)

    async def _damage(self, records: Sequence[KeyRecord], done: Scrubbed) -> str | None:
        """Return the damage as a sentence; empty if there is none, None if the object cannot be checked."""
        for record in records:
            try:
                damage = await self._verify(record, done)
                if damage:  # read again: a transient read error must not put a blob into quarantine
                    await asyncio.sleep(_RETRY_S)
                    damage = await self._verify(record, done)
            except KeyUnavailableError:
                continue
            return damage
        return None

    async def _verify(self, record: KeyRecord, done: Scrubbed) -> str:
        async def pace(count: int) -> None:
            done.bytes += count
            self._report(done)
            await self._pace(done.bytes)

        try:
            await self._blobs.verify_record(record, pace)
        except BlobNotFoundError:
            return "the object is not in storage"
        except BlobDamagedError as error:
            return str(error)
        return ""

    async def _pace(self, total_bytes: int) -> None:
        await self._check_lease()
        if self._bytes_per_s > 0:
            due = self._began_at + total_bytes / self._bytes_per_s
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
