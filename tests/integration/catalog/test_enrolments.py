import asyncio
from datetime import timedelta

import pytest

from auth.nodes.enrolment import Claim
from auth.ports import AuditEvent, Binding, Node
from registry.audit.types import RegistryEventType
from registry.catalog.engine.database import Database, SystemClock
from registry.catalog.enrolments import SqlEnrolmentRecords
from registry.catalog.nodes import SqlNodeRegistry

NOW = SystemClock().now()
SOON = NOW + timedelta(minutes=5)
SECRET, KEYS = b"s" * 32, [bytes([number]) * 32 for number in range(20)]


@pytest.fixture
async def records(database: Database) -> SqlEnrolmentRecords:
    nodes = SqlNodeRegistry(database, SystemClock())
    await nodes.add(Node("node-1", Binding.CERTIFICATE), AuditEvent(RegistryEventType.NODE_CREATED))
    return SqlEnrolmentRecords(database, SystemClock())


async def test_of_many_keys_at_once_one_is_granted(records: SqlEnrolmentRecords) -> None:
    await records.offer("node-1", SECRET, SOON)
    claims = await asyncio.gather(*(records.claim("node-1", SECRET, key, NOW) for key in KEYS))
    assert sorted(claims) == [Claim.GRANTED] + 19 * [Claim.REPLAYED]
    winner = KEYS[claims.index(Claim.GRANTED)]
    assert await records.claim("node-1", SECRET, winner, NOW) is Claim.GRANTED
    assert await records.claim("node-1", SECRET, winner, SOON) is Claim.EXPIRED


async def test_a_claim_that_fails_is_named_for_what_it_is(records: SqlEnrolmentRecords) -> None:
    assert await records.claim("node-1", SECRET, KEYS[0], NOW) is Claim.UNKNOWN
    await records.offer("node-1", SECRET, SOON)
    assert await records.claim("node-1", b"x" * 32, KEYS[0], NOW) is Claim.WRONG_SECRET
    assert await records.claim("node-2", SECRET, KEYS[0], NOW) is Claim.UNKNOWN
    assert await records.claim("node-1", SECRET, KEYS[0], SOON) is Claim.EXPIRED
    await records.offer("node-1", b"t" * 32, SOON)
    assert await records.claim("node-1", SECRET, KEYS[0], NOW) is Claim.WRONG_SECRET
    assert await records.claim("node-1", b"t" * 32, KEYS[0], NOW) is Claim.GRANTED


async def test_a_check_says_what_a_claim_would_and_uses_nothing(records: SqlEnrolmentRecords) -> None:
    assert await records.check("node-1", SECRET, NOW) is Claim.UNKNOWN
    await records.offer("node-1", SECRET, SOON)
    assert await records.check("node-1", b"x" * 32, NOW) is Claim.WRONG_SECRET
    assert await records.check("node-2", SECRET, NOW) is Claim.UNKNOWN
    assert await records.check("node-1", SECRET, SOON) is Claim.EXPIRED
    assert await records.check("node-1", SECRET, NOW) is Claim.GRANTED
    assert await records.claim("node-1", SECRET, KEYS[0], NOW) is Claim.GRANTED
