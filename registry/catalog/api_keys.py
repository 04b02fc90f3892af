"""The table `api_keys`."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, func, insert, or_, select, update

from auth.ports import AuditEvent, Clock
from registry.catalog.engine.database import Database
from registry.catalog.events import append
from registry.catalog.tables import api_keys, organizations
from registry.errors import QuotaExceededError
from registry.model.access import KeyScope
from registry.model.api_keys import ApiKey


class SqlApiKeyDirectory:
    """The table `api_keys`. Revoked keys stay in it, so that their owner can list them."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def add(self, key: ApiKey, key_hash: bytes, event: AuditEvent, *, limit: int) -> None:
        """Insert a key with the event. Raises QuotaExceededError: `limit` keys are in use; 0 is no limit."""
        of_owner = and_(api_keys.c.organization == key.organization, api_keys.c.revoked_at.is_(None))
        owner = select(organizations.c.name).where(organizations.c.name == key.organization)
        async with self._database.write() as connection:
            await connection.execute(owner.with_for_update())
            in_use = await connection.execute(select(func.count()).select_from(api_keys).where(of_owner))
            if limit and in_use.scalar_one() >= limit:
                raise QuotaExceededError("api_keys", limit)
            await connection.execute(insert(api_keys).values(**asdict(key), key_hash=key_hash))
            await append(connection, key.created_at, event)

    async def by_hash(self, key_hash: bytes) -> ApiKey | None:
        """Return the key with this hash, or None if it is unknown or revoked."""
        found = await self._where(api_keys.c.key_hash == key_hash, api_keys.c.revoked_at.is_(None))
        return found[0] if found else None

    async def list(self, organization: str) -> Sequence[ApiKey]:
        """Return an organization's keys, including revoked ones, oldest first."""
        return await self._where(api_keys.c.organization == organization)

    async def revoke(self, key: ApiKey, event: AuditEvent) -> None:
        """Revoke a key immediately, with the event. Does nothing if it is already revoked."""
        now = self._clock.now()
        valid = and_(api_keys.c.key_id == key.key_id, api_keys.c.revoked_at.is_(None))
        async with self._database.write() as connection:
            revoked = await connection.execute(update(api_keys).where(valid).values(revoked_at=now))
            if revoked.rowcount:
                await append(connection, now, event)

    async def touch(self, key_id: str, now: datetime, *, after: timedelta) -> None:
        """Record the use of a key, unless another use was recorded less than `after` ago."""
        last = api_keys.c.last_used_at
        due = and_(api_keys.c.key_id == key_id, or_(last.is_(None), last <= now - after))
        async with self._database.write() as connection:
            await connection.execute(update(api_keys).where(due).values(last_used_at=now))

    async def _where(self, *conditions: ColumnElement[bool]) -> Sequence[ApiKey]:
        shown = (column for column in api_keys.c if column.name != "key_hash")
        query = select(*shown).where(*conditions).order_by(api_keys.c.created_at, api_keys.c.key_id)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings()
            return [ApiKey(**{**row, "scope": KeyScope(row["scope"])}) for row in rows]
