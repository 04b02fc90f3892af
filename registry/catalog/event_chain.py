"""The hash chain over the audit trail, and the trail's retention (docs/adr/0062).

The hash of a record is HMAC-SHA256 over the hash of its predecessor and the record. One process at a time
computes the hashes of new records, soon after they became visible (the table `event_hashes`). The table
`event_chain` has one row with the positions and hashes of the last removed record (anchor) and of the last
chained record (head), under a MAC of its own.
"""

import hashlib
import hmac
import json
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeAlias

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update

from auth.ports import AuditEvent
from registry.audit.types import RegistryEventType
from registry.catalog.engine.database import Database
from registry.catalog.events import append_to
from registry.catalog.tables import event_chain, event_hashes, events, upkeep
from registry.errors import AuditTrailError
from storage.errors import BlobDamagedError
from storage.ports import KeyProvider

BATCH: Final = 500
CHAIN_TENANT: Final = "_audit"  # not a valid name of an organization
CHAIN_AAD: Final = b"crisper-audit-chain"

_RESTARTS: Final = 5
_WEBHOOKS: Final = "webhooks"
_MISSING: Final = "the state of the audit trail's chain was changed or removed"
_FIELDS: Final = tuple(column.name for column in events.columns if column.name != "at")

_Row: TypeAlias = Row[Any]


@dataclass(frozen=True, slots=True)
class ChainState:
    """Positions in the chain, and the hashes of the records there."""

    anchor: int
    anchor_hash: bytes
    head: int
    head_hash: bytes

    def mac(self, key: bytes) -> bytes:
        """Return the MAC of the state."""
        positions = f"{self.anchor} {self.anchor_hash.hex()} {self.head} {self.head_hash.hex()}"
        return hmac.digest(key, b"state " + positions.encode(), hashlib.sha256)


@dataclass(frozen=True, slots=True)
class ChainReport:
    """Result of a check of the chain.

    Attributes:
        records: Number of verified records.
        unchained: Number of records that are newer than the chain's head.
        problem: What is wrong; empty if nothing is.
    """

    state: ChainState
    records: int
    unchained: int
    problem: str = ""


class SqlEventChain:
    """Extends, checks and shortens the chain. The key provider wraps its key."""

    def __init__(self, database: Database, keys: KeyProvider) -> None:
        self._database = database
        self._keys = keys
        self._opened: tuple[bytes, bytes] | None = None

    async def extend(self) -> int:
        """Chain up to `BATCH` new records. Returns their number.

        Raises:
            AuditTrailError: The chain's state was changed by other means.
            KeyUnavailableError: The key provider does not answer.
        """
        if not await self._has_new():
            return 0
        return await self._database.transact(partial(_extend, key=await self._key()))

    async def prune(self, before: datetime, now: datetime) -> int:
        """Remove up to `BATCH` of the oldest records, and record that. Returns the number of removed records.

        Records stay until they are chained and read for webhooks.

        Raises:
            AuditTrailError: The chain's state was changed by other means.
            KeyUnavailableError: The key provider does not answer.
        """
        key = await self._key()
        return await self._database.transact(partial(_prune, key=key, before=before, now=now))

    async def verify(self) -> ChainReport:
        """Check every record. Servers may extend and prune meanwhile.

        Raises:
            AuditTrailError: The chain's state was removed.
            KeyUnavailableError: The key provider does not answer.
        """
        for _ in range(_RESTARTS):
            report = await self._verify()
            if not report.problem or _state_of(await self._row()).anchor == report.state.anchor:
                break
        return report

    async def _verify(self) -> ChainReport:
        row = await self._row()
        state = _state_of(row)
        if row.wrapped_key is None and row.mac is None and not await self._has_hashes():
            return ChainReport(state, 0, await self._count_after(0))
        key = await self._key()
        if not _is_authentic(row, key):
            return ChainReport(state, 0, 0, _MISSING)
        after, hash_, records = 0, state.anchor_hash, 0
        while True:
            async with self._database.read() as connection:
                page = (await connection.execute(_page(after).where(events.c.cursor <= state.head))).all()
            for record in page:
                after = record.cursor
                hash_ = _next_hash(key, hash_, record)
                if after <= state.anchor or not hmac.compare_digest(record.hash or b"", hash_):
                    problem = f"record {after} was changed or added, or records before it were removed"
                    return ChainReport(state, records, 0, problem)
                records += 1
            if len(page) < BATCH:
                break
        intact = hmac.compare_digest(hash_, state.head_hash)
        problem = "" if intact else f"records after {after} were removed; the newest one was {state.head}"
        return ChainReport(state, records, await self._count_after(state.head), problem)

    async def _key(self) -> bytes:
        """Return the chain's key. Creates it at the first use."""
        row = await self._row()
        if row.wrapped_key is None:
            if row.mac is not None or await self._has_hashes():
                raise AuditTrailError(_MISSING)
            row = await self._create_key()
        if self._opened is None or self._opened[0] != row.wrapped_key:
            try:
                key = await self._keys.unwrap(row.kek_id, row.wrapped_key, CHAIN_AAD)
            except BlobDamagedError:
                raise AuditTrailError(_MISSING) from None
            self._opened = (row.wrapped_key, key)
        return self._opened[1]

    async def _create_key(self) -> _Row:
        kek_id = await self._keys.current_id(CHAIN_TENANT)
        wrapped = await self._keys.wrap(kek_id, AESGCM.generate_key(256), CHAIN_AAD)
        change = update(event_chain).where(event_chain.c.wrapped_key.is_(None))
        async with self._database.write() as connection:
            await connection.execute(change.values(kek_id=kek_id, wrapped_key=wrapped))
        return await self._row()

    async def _row(self) -> _Row:
        async with self._database.read() as connection:
            row = (await connection.execute(select(event_chain))).first()
        if row is None:
            raise AuditTrailError(_MISSING)
        return row

    async def _has_new(self) -> bool:
        newest = select(func.max(events.c.cursor)).scalar_subquery()
        async with self._database.read() as connection:
            row = (await connection.execute(select(event_chain.c.head, newest))).first()
        return row is None or row[0] < (row[1] or 0)

    async def _has_hashes(self) -> bool:
        async with self._database.read() as connection:
            return (await connection.execute(select(event_hashes.c.cursor).limit(1))).first() is not None

    async def _count_after(self, cursor: int) -> int:
        query = select(func.count()).select_from(events).where(events.c.cursor > cursor)
        async with self._database.read() as connection:
            return int((await connection.execute(query)).scalar_one())


def _extend(connection: Connection, key: bytes) -> int:
    state = _lock(connection, key)
    rows = connection.execute(
        select(events).where(events.c.cursor > state.head).order_by(events.c.cursor).limit(BATCH)
    ).all()
    hashes, hash_ = [], state.head_hash
    for row in rows:
        hash_ = _next_hash(key, hash_, row)
        hashes.append({"cursor": row.cursor, "hash": hash_})
    if hashes:
        connection.execute(insert(event_hashes), hashes)
        _store(connection, replace(state, head=rows[-1].cursor, head_hash=hash_), key)
    return len(hashes)


def _prune(connection: Connection, key: bytes, before: datetime, now: datetime) -> int:
    state = _lock(connection, key)
    read = connection.execute(select(upkeep.c.cursor).where(upkeep.c.name == _WEBHOOKS)).scalar()
    last = min(state.head, int(read or 0))
    page = connection.execute(_page(state.anchor).where(events.c.cursor <= last)).all()
    kept = next((n for n, row in enumerate(page) if row.at >= before), len(page))
    if not kept:
        return 0
    cursor = page[kept - 1].cursor
    for table in (events, event_hashes):
        connection.execute(delete(table).where(table.c.cursor <= cursor))
    _store(connection, replace(state, anchor=cursor, anchor_hash=page[kept - 1].hash), key)
    detail = {"records": kept, "last_cursor": cursor}
    append_to(connection, now, AuditEvent(RegistryEventType.AUDIT_PRUNED, detail=detail))
    return kept


def _lock(connection: Connection, key: bytes) -> ChainState:
    row = connection.execute(select(event_chain).with_for_update()).first()
    if row is None or not _is_authentic(row, key):
        raise AuditTrailError(_MISSING)
    return _state_of(row)


def _store(connection: Connection, state: ChainState, key: bytes) -> None:
    values = {
        "anchor": state.anchor,
        "anchor_hash": state.anchor_hash,
        "head": state.head,
        "head_hash": state.head_hash,
        "mac": state.mac(key),
    }
    connection.execute(update(event_chain).values(values))


def _page(after: int) -> Select[Any]:
    """Return the query of a page of records with their hashes."""
    return (
        select(events, event_hashes.c.hash)
        .outerjoin(event_hashes, event_hashes.c.cursor == events.c.cursor)
        .where(events.c.cursor > after)
        .order_by(events.c.cursor)
        .limit(BATCH)
    )


def _state_of(row: _Row) -> ChainState:
    return ChainState(row.anchor, row.anchor_hash, row.head, row.head_hash)


def _is_authentic(row: _Row, key: bytes) -> bool:
    """Return whether the state has its MAC. A state without one is that of an empty chain."""
    state = _state_of(row)
    if row.mac is None:
        return state == ChainState(0, bytes(32), 0, bytes(32))
    return hmac.compare_digest(row.mac, state.mac(key))


def _next_hash(key: bytes, previous: bytes, row: _Row) -> bytes:
    facts = [row.at.isoformat(), *(getattr(row, name) for name in _FIELDS)]
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hmac.digest(key, b"record " + previous + text.encode(), hashlib.sha256)
