"""Encryption keys of nodes, in the catalog."""

import asyncio

from auth.ports import AuditEvent, Binding, Node
from registry.audit.types import RegistryEventType
from registry.catalog.engine.database import Database, SystemClock
from registry.catalog.events import SqlEventLog
from registry.catalog.nodes import SqlNodeRegistry

CREATED = AuditEvent(RegistryEventType.NODE_CREATED, node_id="pc-1")
CHANGED = AuditEvent(RegistryEventType.NODE_KEY_CHANGED, node_id="pc-1", source="192.0.2.7")
REVOKED = AuditEvent(RegistryEventType.NODE_REVOKED, node_id="pc-1")


async def a_registry(database: Database, **facts: str) -> SqlNodeRegistry:
    nodes = SqlNodeRegistry(database, SystemClock())
    await nodes.add(Node("pc-1", Binding.CERTIFICATE, **facts), CREATED)  # type: ignore[arg-type]
    return nodes


async def changes(database: Database) -> list[object]:
    events = await SqlEventLog(database, SystemClock()).page(type_=CHANGED.type)
    return [event.detail for event in events]


async def test_a_new_key_replaces_the_one_before_and_keeps_it(database: Database) -> None:
    nodes = await a_registry(database, encryption_key="A", key_thumbprint="a", runtime="podman")
    first = await nodes.set_encryption_key("pc-1", "B", "b", "containerd", CHANGED)
    assert first == await nodes.get("pc-1")
    assert first == Node(
        "pc-1", Binding.CERTIFICATE, None, (), None, None, None, "B", "b", "A", "a", "containerd"
    )
    third = await nodes.set_encryption_key("pc-1", "C", "c", None, CHANGED)
    assert third is not None
    assert (third.previous_encryption_key, third.runtime) == ("B", "containerd")
    assert await changes(database) == [
        {"key_thumbprint": "b", "previous_key_thumbprint": "a", "runtime": "containerd"},
        {"key_thumbprint": "c", "previous_key_thumbprint": "b", "runtime": "containerd"},
    ]


async def test_the_same_key_changes_nothing_and_another_runtime_keeps_the_previous_key(
    database: Database,
) -> None:
    nodes = await a_registry(database)
    for _ in range(3):
        await nodes.set_encryption_key("pc-1", "A", "a", "podman", CHANGED)
        await nodes.set_encryption_key("pc-1", "A", "a", None, CHANGED)
    assert len(await changes(database)) == 1
    await nodes.set_encryption_key("pc-1", "B", "b", None, CHANGED)
    after = await nodes.set_encryption_key("pc-1", "B", "b", "containerd", CHANGED)
    assert after is not None
    assert (after.encryption_key, after.previous_encryption_key, after.runtime) == ("B", "A", "containerd")
    assert len(await changes(database)) == 3


async def test_concurrent_changes_form_one_sequence(database: Database) -> None:
    nodes = await a_registry(database)
    keys = [f"k{number}" for number in range(8)]
    await asyncio.gather(*(nodes.set_encryption_key("pc-1", key, key, None, CHANGED) for key in keys))
    recorded = await changes(database)
    thumbprints = [detail["key_thumbprint"] for detail in recorded]  # type: ignore[index]
    assert sorted(thumbprints) == keys
    assert [detail["previous_key_thumbprint"] for detail in recorded] == [None, *thumbprints[:-1]]  # type: ignore[index]


async def test_a_revoked_or_unknown_node_has_no_keys(database: Database) -> None:
    nodes = await a_registry(database, encryption_key="A", key_thumbprint="a")
    await nodes.set_encryption_key("pc-1", "B", "b", "containerd", CHANGED)
    await nodes.revoke("pc-1", REVOKED)
    node = await nodes.get("pc-1")
    assert node is not None
    kept = (
        node.encryption_key,
        node.key_thumbprint,
        node.previous_encryption_key,
        node.previous_key_thumbprint,
    )
    assert kept == (None, None, None, None)
    for node_id in ("pc-1", "pc-9"):
        assert await nodes.set_encryption_key(node_id, "C", "c", None, CHANGED) is None
    assert len(await changes(database)) == 1
