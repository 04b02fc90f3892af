"""The audit trail (implements `auth.ports.AuditTrail`)."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Any, Final

import orjson
from sqlalchemy import (
    Connection,
    RowMapping,
    String,
    bindparam,
    func,
    literal_column,
    select,
    text,
    true,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

from auth.actor import Actor, ActorKind
from auth.coalescer import Coalescer
from auth.ledger.stream import LedgerEvent
from auth.ports import AuditEvent, Clock
from registry.audit.trail import StoredEvent
from registry.catalog.engine.database import AdvisoryLock, CatalogConnection, Database
from registry.catalog.figures import add_figures
from registry.catalog.tables import events
from registry.model.figures import figures_of
from registry.model.group_logs import is_logged

_LOCK = text("SELECT pg_advisory_xact_lock(:key)")
_ACTOR: Final = "actor"
_SQLITE = sqlite.dialect(json_serializer=json.JSONEncoder().encode)


async def append(connection: CatalogConnection, at: datetime, *recorded: AuditEvent) -> None:
    """Insert events in the transaction of their change, so that both are committed or neither.

    Call it last in the transaction: on PostgreSQL it takes a lock that serializes all appends
    (docs/adr/0017-audit-trail-order.md), and row locks taken after it could deadlock.
    """
    if recorded:
        await connection.run_sync(lambda inner: append_to(inner, at, *recorded))


def append_to(connection: Connection, at: datetime, *recorded: AuditEvent) -> None:
    """Insert events as `append` does, inside a function that runs in a transaction."""
    _append_all(connection, [_values(at, event) for event in recorded])


def _append_all(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows in order, except those whose `event_id` is already stored, and count them for charts."""
    if connection.dialect.name == "sqlite":  # a transaction on SQLite excludes all other writers anyway
        new = _new(connection, rows)
        connection.execute(_INSERT_JSON, {"rows": _as_json(rows)})
    else:
        connection.execute(_LOCK, {"key": AdvisoryLock.APPEND})
        new = _new(connection, rows)
        connection.execute(postgresql.insert(events).on_conflict_do_nothing(), rows)
    add_figures(connection, figures_of(new))


def _new(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return the rows whose `event_id` is not stored."""
    ids = [row["event_id"] for row in rows if row["event_id"] is not None]
    if not ids:
        return rows
    stored = set(connection.execute(select(events.c.event_id).where(events.c.event_id.in_(ids))).scalars())
    return [row for row in rows if row["event_id"] not in stored]


def _from_json() -> sqlite.Insert:
    """Return an INSERT with one JSON parameter, because SQLite's driver takes Python's lock for each row."""
    rows = func.json_each(bindparam("rows", type_=String)).table_valued("key", "value")
    values = [func.json_extract(rows.c.value, literal_column(f"'$[{n}]'")) for n in range(len(_COLUMNS))]
    source = select(*values).where(true()).order_by(rows.c.key)
    statement = sqlite.insert(events).from_select([name for name, _ in _COLUMNS], source)
    return statement.on_conflict_do_nothing()


def _bound_by(type_: TypeEngine[Any]) -> Callable[[Any], Any]:
    return type_.dialect_impl(_SQLITE).bind_processor(_SQLITE) or (lambda value: value)


_COLUMNS = [(column.name, _bound_by(column.type)) for column in events.columns if not column.primary_key]
_INSERT_JSON = _from_json()


def _as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows in the columns' storage form: numbers, and text without NULs."""
    return orjson.dumps([[bound(row[name]) for name, bound in _COLUMNS] for row in rows]).decode()


class SqlEventLog:
    """The table `events`. Cursors increase in the order in which events become visible."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._appends: Coalescer[tuple[datetime, AuditEvent], None] = Coalescer(self._append)

    async def record(self, event: AuditEvent) -> None:
        """Append an event durably. Concurrent events share a transaction."""
        await self._appends.do((self._clock.now(), event))

    async def store(self, recorded: Sequence[LedgerEvent]) -> None:
        """Append events from the ledger in one transaction. Events that are already stored are skipped."""
        rows = [_values(each.at, each.event, each.event_id) for each in recorded]
        await self._database.transact(partial(_append_all, rows=rows))

    async def page(
        self,
        *,
        after: int = 0,
        limit: int = 100,
        type_: str | None = None,
        organization: str | None = None,
        token_id: str | None = None,
    ) -> Sequence[StoredEvent]:
        """Return events after a cursor, oldest first. No event can appear between them later."""
        query = select(events).where(events.c.cursor > after).order_by(events.c.cursor).limit(limit)
        for column, value in (
            (events.c.type, type_),
            (events.c.organization, organization),
            (events.c.token_id, token_id),
        ):
            if value is not None:
                query = query.where(column == value)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [read_event(row) for row in rows]

    async def latest(self) -> int:
        """Return the newest event's cursor; 0 if there is none."""
        async with self._database.read() as connection:
            return (await connection.execute(select(func.max(events.c.cursor)))).scalar() or 0

    async def aclose(self) -> None:
        """Wait until all events are appended."""
        await self._appends.aclose()

    async def _append(self, batch: Sequence[tuple[datetime, AuditEvent]]) -> Sequence[None]:
        rows = [_values(at, event) for at, event in batch]
        await self._database.transact(partial(_append_all, rows=rows))
        return [None] * len(batch)


def _values(at: datetime, event: AuditEvent, event_id: str | None = None) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "at": at,
        "type": event.type,
        "organization": event.organization,
        "token_id": event.token_id,
        "node_id": event.node_id,
        "cause": event.cause,
        "source": event.source,
        "detail": {**event.detail, **_of_actor(event.actor)},
        "group_id": event.detail.get("group_id") if is_logged(event.type) else None,
    }


def read_event(row: RowMapping) -> StoredEvent:
    """Return an event from a row of the audit trail."""
    facts = dict(row)
    del facts["event_id"], facts["group_id"]
    facts["detail"] = detail = dict(facts["detail"])
    actor = detail.pop(_ACTOR, None)
    return StoredEvent(**facts, actor=Actor(**{**actor, "kind": ActorKind(actor["kind"])}) if actor else None)


def _of_actor(actor: Actor | None) -> Mapping[str, object]:
    """Return the actor as a fact. A column of its own would change the hashes of older records."""
    return {_ACTOR: asdict(actor)} if actor is not None else {}
