"""Edge caches in the catalog, and the ciphertexts that they may read, on each database."""

import os
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network

import pytest
from sqlalchemy import insert

from auth.ports import AuditEvent
from registry.audit.types import RegistryEventType
from registry.catalog.edges import SqlCiphertexts, SqlEdges
from registry.catalog.engine.database import Database, SystemClock
from registry.catalog.events import SqlEventLog
from registry.catalog.key_records import SqlKeyRecords
from registry.catalog.tables import quarantine
from registry.errors import ConflictError
from registry.model import edges as model
from registry.model.edges import Edge
from storage.digest import Digest
from storage.records import KeyRecord

NOW = datetime(2026, 1, 2, tzinfo=UTC)
CREATED = AuditEvent(RegistryEventType.EDGE_CREATED, detail={"edge": "berlin"})
REVOKED = AuditEvent(RegistryEventType.EDGE_REVOKED, detail={"edge": "berlin"})
EDGE = Edge(
    "berlin",
    "https://berlin.example.net",
    (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")),
    (ip_network("192.0.2.7/32"),),
    NOW,
)


async def test_an_edge_is_found_by_its_key_until_it_is_removed(database: Database) -> None:
    edges = SqlEdges(database, SystemClock())
    await edges.add(EDGE, b"1" * 32, CREATED)
    assert await edges.by_key(b"1" * 32) == EDGE
    assert await edges.by_key(b"2" * 32) is None
    assert await edges.list() == [EDGE]
    assert await edges.remove("berlin", REVOKED)
    assert not await edges.remove("berlin", REVOKED)
    assert await edges.by_key(b"1" * 32) is None
    recorded = await SqlEventLog(database, SystemClock()).page()
    assert [event.type for event in recorded] == ["edge.created", "edge.revoked"]


async def test_names_are_unique_and_edges_are_limited(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    edges = SqlEdges(database, SystemClock())
    await edges.add(EDGE, b"1" * 32, CREATED)
    with pytest.raises(ConflictError, match="choose another name"):
        await edges.add(EDGE, b"2" * 32, CREATED)
    monkeypatch.setattr("registry.catalog.edges.MAX_EDGES", 1)
    with pytest.raises(ConflictError, match="the most"):
        await edges.add(replace(EDGE, name="paris"), b"3" * 32, CREATED)
    assert model.MAX_EDGES > 1
    assert len(await SqlEventLog(database, SystemClock()).page()) == 1


def record(tenant: str, number: int, ciphertext: bytes | None) -> KeyRecord:
    sidecar = f"sidecar-{tenant}-{number}" if ciphertext else None
    named = Digest.of(ciphertext) if ciphertext else None
    name = f"object-{tenant}-{number}"
    digest = Digest.of(b"plain")
    return KeyRecord(tenant, digest, os.urandom(16), name, 7, 9, "kek", b"wrapped", sidecar, named)


async def test_current_and_replaced_ciphertexts_are_found(database: Database) -> None:
    records, ciphertexts = SqlKeyRecords(database), SqlCiphertexts(database)
    old, new = record("acme", 1, b"old"), record("acme", 2, b"new")
    await records.add(old)
    await records.add(record("plain", 1, None))
    found = await ciphertexts.find(Digest.of(b"old"))
    assert found is not None
    assert (found.organization, found.plaintext, found.size_bytes) == ("acme", Digest.of(b"plain"), 7)
    await records.add(new, replaces=old)
    for content in (b"old", b"new"):
        assert await ciphertexts.find(Digest.of(content)) is not None
    for digest in (Digest.of(b"plain"), Digest.of(b"other")):
        assert await ciphertexts.find(digest) is None
    async with database.write() as connection:
        damaged = {"object_name": new.object_name, "reason": "test", "found_at": NOW}
        await connection.execute(insert(quarantine).values(damaged))
    assert await ciphertexts.find(Digest.of(b"new")) is None
    await records.remove("acme", Digest.of(b"plain"))
    assert await ciphertexts.find(Digest.of(b"old")) is None
