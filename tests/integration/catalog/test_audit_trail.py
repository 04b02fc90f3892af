"""The audit trail: nothing is lost, no reader misses an event, and no stranger fills it."""

import asyncio
from dataclasses import fields
from uuid import uuid4

import pytest

from auth.audit import AuthEventType
from auth.ports import AuditEvent
from registry.audit.throttling import ThrottledAuditTrail, ThrottleLimits
from registry.audit.types import RegistryEventType
from registry.catalog.engine.database import Database, SystemClock, exclude_collection
from registry.catalog.events import SqlEventLog, append


async def test_a_reader_behind_a_cursor_misses_nothing_that_many_writers_append(database: Database) -> None:
    logs = [SqlEventLog(database, SystemClock()) for _ in range(4)]
    writing = asyncio.gather(
        *(
            log.record(AuditEvent(AuthEventType.TOKEN_MINTED, token_id=f"{n}-{m}"))
            for n, log in enumerate(logs)
            for m in range(60)
        ),
        *(_slowly(database, f"slow-{n}") for n in range(12)),
    )
    seen: list[str | None] = []
    after = 0
    finished = False
    while not finished:
        finished = writing.done()
        while page := await logs[0].page(after=after, limit=17):
            seen += [stored.token_id for stored in page]
            after = page[-1].cursor
    await writing
    assert len(seen) == len(set(seen)) == 252
    assert await logs[0].latest() == after


async def _slowly(database: Database, token_id: str) -> None:
    """Append within a transaction that takes its time before it commits."""
    async with database.write() as connection:
        await append(
            connection, SystemClock().now(), AuditEvent(RegistryEventType.GROUP_IMPORTED, token_id=token_id)
        )
        await asyncio.sleep(0.02)


async def test_events_of_one_moment_share_few_transactions(database: Database) -> None:
    log = SqlEventLog(database, SystemClock())
    await asyncio.gather(
        *(log.record(AuditEvent(AuthEventType.TOKEN_MINTED, token_id=str(n))) for n in range(500))
    )
    page = await log.page(limit=1000)
    assert [stored.token_id for stored in page] == [str(n) for n in range(500)]


async def test_what_is_recorded_together_is_read_as_it_was_said(database: Database) -> None:
    log = SqlEventLog(database, SystemClock())
    detail = {
        "quotes": "'\"\\",
        "lines": "a\nb\t\x7f",
        "nul": "\0",
        "none": None,
        "list": [1, 2.5, True],
        "é": "😀",
    }
    said = [
        AuditEvent(AuthEventType.NODE_ENROLLED, "org", "token", "node", "cause", "::1", detail),
        AuditEvent(AuthEventType.NODE_RENEWED),
        AuditEvent(
            AuthEventType.TOKEN_MINTED, source="'); DROP TABLE events; --", node_id='$[0] "\\u0041" é 😀'
        ),
    ]
    before = SystemClock().now()
    await asyncio.gather(*map(log.record, said))
    page = await log.page()
    names = [field.name for field in fields(AuditEvent)]
    assert [AuditEvent(**{name: getattr(stored, name) for name in names}) for stored in page] == said
    assert all(before <= stored.at <= SystemClock().now() for stored in page)


async def test_text_that_no_database_stores_is_cut_or_replaced(
    database: Database,
) -> None:
    log = SqlEventLog(database, SystemClock())
    said = [
        AuditEvent(AuthEventType.NODE_ENROLLED, node_id="node-1"),
        AuditEvent(AuthEventType.NODE_RENEWED, node_id="a\0b\udcff", source="::1\0"),
        AuditEvent(AuthEventType.TOKEN_MINTED, node_id="n" * 1000, source="s" * 1000),
        AuditEvent(AuthEventType.TOKEN_REVOKED, node_id="node-2"),
    ]
    await asyncio.gather(*map(log.record, said))
    kept = [(stored.type, stored.node_id, stored.source) for stored in await log.page()]
    assert kept == [
        (AuthEventType.NODE_ENROLLED, "node-1", None),
        (AuthEventType.NODE_RENEWED, "a\N{REPLACEMENT CHARACTER}b?", "::1\N{REPLACEMENT CHARACTER}"),
        (AuthEventType.TOKEN_MINTED, "n" * 128, "s" * 64),
        (AuthEventType.TOKEN_REVOKED, "node-2", None),
    ]


async def test_the_event_of_a_cancelled_caller_is_kept(
    database: Database,
) -> None:
    log = SqlEventLog(database, SystemClock())
    calls = [
        asyncio.create_task(log.record(AuditEvent(AuthEventType.TOKEN_MINTED, token_id=str(n))))
        for n in range(3)
    ]
    await asyncio.sleep(0)
    calls[1].cancel()
    await asyncio.gather(calls[0], calls[2])
    await log.aclose()
    assert len(await log.page()) == 3


class Kept:
    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    async def record(self, event: AuditEvent) -> None:
        self.events.append(event)


def _refused(
    cause: str, source: str, token_id: str | None = None, organization: str | None = None
) -> AuditEvent:
    return AuditEvent(
        AuthEventType.TOKEN_REFUSED, organization, cause=cause, source=source, token_id=token_id
    )


async def test_garbage_from_one_source_is_written_a_few_times_then_counted() -> None:
    kept = Kept()
    trail = ThrottledAuditTrail(kept, ThrottleLimits(alike=5, unauthenticated=100, kinds=4), window_s=60)
    for n in range(1000):
        await trail.record(_refused("forged", f"2001:db8::{n:x}"))
    await trail.record(_refused("forged", "192.0.2.9"))
    await trail.record(AuditEvent(AuthEventType.TOKEN_MINTED))
    assert len(kept.events) == 7
    await trail.aclose()
    assert kept.events[-1].detail == {"suppressed": 995}


async def test_garbage_from_everywhere_is_bounded_in_all() -> None:
    kept = Kept()
    trail = ThrottledAuditTrail(kept, ThrottleLimits(alike=5, unauthenticated=20, kinds=4), window_s=60)
    for n in range(2000):
        await trail.record(_refused("malformed", f"198.51.{n // 250}.{n % 250}"))
    assert len(kept.events) == 20
    await trail.aclose()
    assert len(kept.events) == 20 + 5
    assert sum(int(str(event.detail["suppressed"])) for event in kept.events[20:]) == 1980


async def test_every_window_ends_with_a_summary_and_the_next_writes_again() -> None:
    kept = Kept()
    trail = ThrottledAuditTrail(kept, ThrottleLimits(alike=5, unauthenticated=1), window_s=0.2)
    async with asyncio.timeout(60):
        while len(kept.events) < 4:
            await trail.record(_refused("malformed", "203.0.113.1"))
            await asyncio.sleep(0.01)
    assert [bool(event.detail) for event in kept.events[:4]].count(True) in {1, 2}
    await trail.aclose()


@pytest.mark.parametrize("cause", ["replayed", "expired", "wrong_node"])
async def test_refusals_of_one_token_are_bounded_wherever_it_is_shown(cause: str) -> None:
    kept = Kept()
    trail = ThrottledAuditTrail(kept, ThrottleLimits(alike=5), window_s=60)
    for n in range(100):
        await trail.record(_refused(cause, f"192.0.2.{n}", "token-1"))
    await trail.record(_refused(cause, "192.0.2.1", "token-2"))
    assert [event.token_id for event in kept.events] == ["token-1"] * 5 + ["token-2"]
    await trail.aclose()
    assert kept.events[-1].detail == {"suppressed": 95}


async def test_a_sum_of_many_tokens_names_no_organization() -> None:
    kept = Kept()
    trail = ThrottledAuditTrail(kept, ThrottleLimits(alike=0, kinds=1), window_s=60)
    for token_id, organization in (("t1", "acme"), ("t2", "acme"), ("t3", "rival")):
        await trail.record(_refused("replayed", "192.0.2.1", token_id, organization))
    await trail.aclose()
    told = [(event.token_id, event.organization, event.detail["suppressed"]) for event in kept.events]
    assert told == [("t1", "acme", 1), (None, None, 2)]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # SQLite has one writer at a time
async def test_transactions_that_hold_collection_off_append_without_a_deadlock(database: Database) -> None:
    both = asyncio.Barrier(2)

    async def change() -> None:
        async with database.write() as connection:
            await connection.run_sync(exclude_collection)
            await both.wait()
            await append(
                connection, SystemClock().now(), AuditEvent(RegistryEventType.GROUP_IMPORTED, token_id=mark)
            )

    mark = uuid4().hex
    await asyncio.wait_for(asyncio.gather(change(), change()), timeout=30)
    assert len(await SqlEventLog(database, SystemClock()).page(token_id=mark)) == 2
