"""Rotation, rewrapping and destruction of key-encryption keys, while servers run (docs/keys.md)."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from storage.errors import BlobDamagedError
from storage.ports import KeyBinding, KeyProvider
from storage.read.unlocking import record_aad
from storage.records import KeyRecord, KeyRecords, KeyUse, WrappedSecret, WrappedSecrets

_BATCH = 100
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """Progress of a rewrap run.

    Attributes:
        seen: Checked records and secrets.
        total: Records and secrets at the start of the run.
        changed: Records and secrets that were rewrapped with their tenant's current key.
        damaged: Records and secrets that do not unwrap; they are left unchanged.
    """

    seen: int
    total: int
    changed: int = 0
    damaged: int = 0


@dataclass(frozen=True, slots=True)
class Shredded:
    """Numbers of destroyed keys and deleted records."""

    keys: int
    records: int


class KeyManager:
    """Manages key-encryption keys. All operations can run while servers run, and can be repeated."""

    def __init__(self, keys: KeyProvider, records: KeyRecords, secrets: WrappedSecrets) -> None:
        self._keys = keys
        self._records = records
        self._secrets = secrets

    async def status(self) -> list[tuple[KeyUse, bool]]:
        """List the keys in use, and whether each one is its tenant's current key."""
        return [(use, use.kek_id == await self._keys.current_id(use.tenant)) for use in await self._census()]

    async def rotate(self, tenants: list[str] | None = None) -> dict[str, str]:
        """Create a new current key for tenants; None means all that use one. Returns the new ids."""
        if tenants is None:
            tenants = sorted({use.tenant for use in await self._census()})
        return {tenant: await self._keys.rotate(tenant) for tenant in tenants}

    async def rewrap(self, report: Callable[[Rewrapped], None] = lambda _done: None) -> Rewrapped:
        """Rewrap all data keys that are not under their tenant's current key.

        Finished records are skipped, so an interrupted run can be repeated.

        Args:
            report: Called with the progress after every batch.

        Raises:
            KeyUnavailableError: The provider does not answer, or a key is missing. Finished work is kept.
        """
        uses = await self._census()
        done = Rewrapped(0, sum(use.records + use.secrets for use in uses))
        for secret in await self._secrets.all():
            done = await self._rewrap_secret(secret, done)
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
        """Destroy a tenant's keys and delete its records and secrets, so that no server can open its blobs.

        Servers cache ciphers for five minutes, but check the record at each read. Running reads continue to
        their end. The objects stay until garbage collection, or as long as other tenants use them.
        """
        keys = await self._keys.destroy(tenant)
        await self._secrets.remove(tenant)
        records = 0
        for use in await self._records.census():
            while use.tenant == tenant and (page := await self._records.page(tenant, use.kek_id, "", _BATCH)):
                for record in page:
                    records += await self._records.remove(tenant, record.digest) is not None
        return Shredded(keys, records)

    async def _census(self) -> list[KeyUse]:
        uses = {(use.tenant, use.kek_id): use for use in await self._records.census()}
        for secret in await self._secrets.all():
            name = (secret.tenant, secret.kek_id)
            use = uses.get(name, KeyUse(*name, 0))
            uses[name] = replace(use, secrets=use.secrets + 1)
        return sorted(uses.values())

    async def _rewrap_secret(self, secret: WrappedSecret, done: Rewrapped) -> Rewrapped:
        done = replace(done, seen=done.seen + 1)
        if await self._keys.is_current(secret.tenant, secret.kek_id, secret.wrapped):
            return done
        target = await self._keys.current_id(secret.tenant)
        try:
            wrapped = await self._keys.rewrap(
                secret.wrapped, KeyBinding(secret.kek_id, secret.aad), KeyBinding(target, secret.aad)
            )
        except BlobDamagedError:
            return replace(done, damaged=done.damaged + 1)
        changed = await self._secrets.replace(secret, replace(secret, kek_id=target, wrapped=wrapped))
        return replace(done, changed=done.changed + changed)

    async def _rewrap_batch(self, page: list[KeyRecord]) -> tuple[list[tuple[KeyRecord, KeyRecord]], int]:
        """Return the changed records as (old, new), and the number of damaged records."""
        changes, damaged = [], 0
        for start in range(0, len(page), _AT_ONCE):
            some = page[start : start + _AT_ONCE]
            for record, new in zip(some, await asyncio.gather(*map(self._rewrap_record, some)), strict=True):
                if isinstance(new, BlobDamagedError):
                    damaged += 1
                elif new is not record:
                    changes.append((record, new))
        return changes, damaged

    async def _rewrap_record(self, record: KeyRecord) -> KeyRecord | BlobDamagedError:
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
    return KeyBinding(kek_id, record_aad(record, kek_id))
