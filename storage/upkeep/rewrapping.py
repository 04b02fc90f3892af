"""Changing the keys that data keys are wrapped under, while blobs are read and written (docs/keys.md)."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from storage.envelope.key import wrap_aad
from storage.errors import BlobDamagedError
from storage.ports import KeyBinding, KeyProvider
from storage.records import KeyRecord, KeyRecords, KeyUse

_BATCH = 100
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """How far a run has come.

    Attributes:
        seen: Records looked at.
        total: Records that there were at the start.
        changed: Records that are under their tenant's current key now, and were not.
        damaged: Records that do not unwrap, and were left as they are.
    """

    seen: int
    total: int
    changed: int = 0
    damaged: int = 0


@dataclass(frozen=True, slots=True)
class Shredded:
    """What a shredding took away."""

    keys: int
    records: int


class KeyManager:
    """Rotates, rewraps and destroys; safe beside running servers, and to start again after anything."""

    def __init__(self, keys: KeyProvider, records: KeyRecords) -> None:
        self._keys = keys
        self._records = records

    async def status(self) -> list[tuple[KeyUse, bool]]:
        """List the keys that records are wrapped under, and whether each is its tenant's current one."""
        return [
            (use, use.kek_id == await self._keys.current_id(use.tenant))
            for use in await self._records.census()
        ]

    async def rotate(self, tenants: list[str] | None = None) -> dict[str, str]:
        """Give tenants a fresh current key; all that have records when None. Returns the new ids."""
        if tenants is None:
            tenants = sorted({use.tenant for use in await self._records.census()})
        return {tenant: await self._keys.rotate(tenant) for tenant in tenants}

    async def rewrap(self, report: Callable[[Rewrapped], None] = lambda _done: None) -> Rewrapped:
        """Wrap every data key that is not under its tenant's current key anew.

        Records that are done are seen to be so, hence a run that was stopped is simply started again.

        Args:
            report: Told after every batch.

        Raises:
            KeyUnavailableError: The provider does not answer, or a key is gone; what was done stays done.
        """
        uses = await self._records.census()
        done = Rewrapped(0, sum(use.records for use in uses))
        for use in uses:
            after = ""
            while page := await self._records.page(use.tenant, use.kek_id, after, _BATCH):
                after = str(page[-1].digest)
                changes, damaged = await self._rewrap_batch(page)
                changed = await self._records.replace(changes) if changes else 0
                done = replace(
                    done,
                    seen=done.seen + len(page),
                    changed=done.changed + changed,
                    damaged=done.damaged + damaged,
                )
                report(done)
        return done

    async def shred(self, tenant: str) -> Shredded:
        """Destroy a tenant's keys, then forget its records, so that no server opens anything from then on.

        Servers keep ciphers for five minutes, but look for the record at each read; reads that are under
        way go on to their end. The objects stay as noise until they are collected, or for other tenants.
        """
        keys = await self._keys.destroy(tenant)
        records = 0
        for use in await self._records.census():
            while use.tenant == tenant and (page := await self._records.page(tenant, use.kek_id, "", _BATCH)):
                for record in page:
                    records += await self._records.remove(tenant, record.digest) is not None
        return Shredded(keys, records)

    async def _rewrap_batch(self, page: list[KeyRecord]) -> tuple[list[tuple[KeyRecord, KeyRecord]], int]:
        """Return the changes to make, and how many records cannot be changed."""
        changes, damaged = [], 0
        for start in range(0, len(page), _AT_ONCE):
            some = page[start : start + _AT_ONCE]
            for record, new in zip(some, await asyncio.gather(*map(self._anew, some)), strict=True):
                if isinstance(new, BlobDamagedError):
                    damaged += 1
                elif new is not record:
                    changes.append((record, new))
        return changes, damaged

    async def _anew(self, record: KeyRecord) -> KeyRecord | BlobDamagedError:
        if await self._keys.is_current(record.tenant, record.kek_id, record.wrapped_dek):
            return record
        target = await self._keys.current_id(record.tenant)
        try:
            wrapped = await self._keys.rewrap(
                record.wrapped_dek, _binding(record, record.kek_id), _binding(record, target)
            )
        except BlobDamagedError as error:
            return error
        return replace(record, kek_id=target, wrapped_dek=wrapped)


def _binding(record: KeyRecord, kek_id: str) -> KeyBinding:
    return KeyBinding(kek_id, wrap_aad(record.file_id, str(record.digest), record.tenant, kek_id))
