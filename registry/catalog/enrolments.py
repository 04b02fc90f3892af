"""Enrolment secrets of nodes (implements `auth.nodes.enrolment.EnrolmentRecords`)."""

import hmac
from datetime import datetime

from sqlalchemy import RowMapping, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from auth.nodes.enrolment import Claim
from auth.ports import AuditEvent, Clock
from registry.catalog.engine.database import Database
from registry.catalog.events import append
from registry.catalog.tables import enrolments
from registry.errors import ConflictError


class SqlEnrolmentRecords:
    """The table `enrolments`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def offer(
        self, node_id: str, secret_hash: bytes, expires_at: datetime, *recorded: AuditEvent
    ) -> None:
        """Store a new secret's hash, which replaces an earlier one, and the events, in one transaction.

        Raises:
            ConflictError: Another secret was offered at the same moment.
        """
        values = {"node_id": node_id, "secret_hash": secret_hash, "expires_at": expires_at}
        try:
            async with self._database.write() as connection:
                await connection.execute(delete(enrolments).where(enrolments.c.node_id == node_id))
                await connection.execute(insert(enrolments).values(values))
                await append(connection, self._clock.now(), *recorded)
        except IntegrityError:
            raise ConflictError(f"an enrolment of {node_id!r} was just offered; try again") from None

    async def check(self, node_id: str, secret_hash: bytes, now: datetime) -> Claim:
        """Return whether a secret could be used for a key, without using it."""
        query = select(enrolments).where(enrolments.c.node_id == node_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return _refusal(row, secret_hash, now) or Claim.GRANTED

    async def claim(self, node_id: str, secret_hash: bytes, key_hash: bytes, now: datetime) -> Claim:
        """Use a secret for one key, atomically. Granted again for the same key until it expires.

        A single conditional update decides, so that exactly one of several concurrent keys succeeds.
        """
        its_own = enrolments.c.node_id == node_id
        unspent = or_(enrolments.c.key_hash.is_(None), enrolments.c.key_hash == key_hash)
        conditions = (
            its_own,
            enrolments.c.secret_hash == secret_hash,
            enrolments.c.expires_at > now,
            unspent,
        )
        async with self._database.write() as connection:
            spent = await connection.execute(update(enrolments).where(*conditions).values(key_hash=key_hash))
            if spent.rowcount == 1:
                return Claim.GRANTED
            row = (await connection.execute(select(enrolments).where(its_own))).mappings().first()
        return _refusal(row, secret_hash, now) or Claim.REPLAYED


def _refusal(row: RowMapping | None, secret_hash: bytes, now: datetime) -> Claim | None:
    """Return why a secret is refused for every key; None if it is valid."""
    if row is None:
        return Claim.UNKNOWN
    if not hmac.compare_digest(row["secret_hash"], secret_hash):
        return Claim.WRONG_SECRET
    return Claim.EXPIRED if row["expires_at"] <= now else None
