import pytest

from auth.ports import AuditEvent, Binding, Node
from registry.audit.types import RegistryEventType
from registry.catalog import node_blobs
from registry.catalog.engine.database import Database, SystemClock
from registry.catalog.node_blobs import SqlNodeBlobs
from registry.catalog.nodes import SqlNodeRegistry
from registry.catalog.organizations import SqlOrganizationDirectory
from registry.model.organizations import Organization

CREATED = AuditEvent(RegistryEventType.NODE_CREATED)
REVOKED = AuditEvent(RegistryEventType.NODE_REVOKED)


async def a_store(database: Database) -> SqlNodeBlobs:
    for name in ("acme", "other"):
        await SqlOrganizationDirectory(database).add(Organization(name, SystemClock().now()))
    for node_id in ("pc-1", "pc-2"):
        await SqlNodeRegistry(database, SystemClock()).add(Node(node_id, Binding.CERTIFICATE), CREATED)
    return SqlNodeBlobs(database, SystemClock())


async def test_blobs_are_remembered_by_node_and_organization(database: Database) -> None:
    blobs = await a_store(database)
    await blobs.record("acme", "pc-1", {"a", "b"}, set())
    await blobs.record("acme", "pc-1", {"b", "c"}, {"a", "x"})
    assert await blobs.had("acme", "pc-1", "abcx") == {"b", "c"}
    assert await blobs.had("acme", "pc-1", {"b"}) == {"b"}
    for elsewhere in (("acme", "pc-2"), ("other", "pc-1")):
        assert await blobs.had(*elsewhere, "abc") == set()


async def test_a_revoked_or_unknown_node_has_none(database: Database) -> None:
    blobs = await a_store(database)
    await blobs.record("acme", "pc-1", {"a"}, set())
    await SqlNodeRegistry(database, SystemClock()).revoke("pc-1", REVOKED)
    assert await blobs.had("acme", "pc-1", "a") == set()
    for organization, node_id in (("acme", "pc-1"), ("acme", "pc-9"), ("gone", "pc-2")):
        await blobs.record(organization, node_id, {"a"}, set())
        assert await blobs.had(organization, node_id, "a") == set()


async def test_the_oldest_are_forgotten_beyond_the_limit(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_blobs, "MAX_BLOBS", 3)
    blobs = await a_store(database)
    for number in range(5):
        await blobs.record("acme", "pc-1", {f"{number}"}, set())
    assert await blobs.had("acme", "pc-1", "01234") == {"2", "3", "4"}
