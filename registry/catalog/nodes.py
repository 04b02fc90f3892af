"""The table `nodes`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from auth.ports import AuditEvent, Binding, Clock, Node
from registry.catalog.engine.database import Database
from registry.catalog.events import append
from registry.catalog.tables import NODE_ID_CHARS, node_blobs, nodes, storable
from registry.errors import ConflictError

_NO_KEYS: Mapping[str, Any] = {
    "encryption_key": None,
    "key_thumbprint": None,
    "previous_encryption_key": None,
    "previous_key_thumbprint": None,
}


class SqlNodeRegistry:
    """The table `nodes`. Nodes are never removed, so that another machine cannot reuse an id."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def get(self, node_id: str) -> Node | None:
        """Return a node, also if it is revoked, or None."""
        if storable(node_id, NODE_ID_CHARS) != node_id:
            return None  # no node has such an id, and PostgreSQL refuses it
        async with self._database.read() as connection:
            found = await connection.execute(select(nodes).where(nodes.c.node_id == node_id))
            row = found.mappings().first()
        return _node(dict(row)) if row is not None else None

    async def add(self, node: Node, event: AuditEvent) -> None:
        """Insert a node with the event. Raises ConflictError: the id is or was in use."""
        now = self._clock.now()
        values = {
            "node_id": node.node_id,
            "binding": node.binding.value,
            "secret_hash": node.secret_hash,
            "networks": [str(network) for network in node.networks],
            "created_at": now,
            "revoked_at": node.revoked_at,
            "reads_zstd": node.reads_zstd,
            "platform": node.platform,
            "encryption_key": node.encryption_key,
            "key_thumbprint": node.key_thumbprint,
            "runtime": node.runtime,
        }
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(nodes).values(values))
                await append(connection, now, event)
        except IntegrityError as error:
            raise ConflictError(f"the node id {node.node_id!r} was used before; choose another") from error

    async def revoke(self, node_id: str, event: AuditEvent) -> bool:
        """Revoke a node and drop its encryption keys, with the event unless it is already revoked.

        Its id cannot be used again. Returns False if there is no such node.
        """
        now = self._clock.now()
        change = update(nodes).where(nodes.c.node_id == node_id, nodes.c.revoked_at.is_(None))
        async with self._database.write() as connection:
            if (await connection.execute(change.values({**_NO_KEYS, "revoked_at": now}))).rowcount:
                await connection.execute(delete(node_blobs).where(node_blobs.c.node_id == node_id))
                await append(connection, now, event)
                return True
            known = await connection.execute(select(nodes.c.node_id).where(nodes.c.node_id == node_id))
            return known.first() is not None

    async def set_secret(self, node_id: str, secret_hash: bytes, event: AuditEvent) -> bool:
        """Replace a node's secret, with the event. Returns False if it was revoked meanwhile."""
        change = update(nodes).where(nodes.c.node_id == node_id, nodes.c.revoked_at.is_(None))
        async with self._database.write() as connection:
            if not (await connection.execute(change.values(secret_hash=secret_hash))).rowcount:
                return False
            await append(connection, self._clock.now(), event)
        return True

    async def set_platform(self, node_id: str, platform: str) -> None:
        """Record the platform that a node has reported."""
        async with self._database.write() as connection:
            this = nodes.c.node_id == node_id
            await connection.execute(update(nodes).where(this).values(platform=platform))

    async def set_encryption_key(
        self, node_id: str, pem: str, thumbprint: str, runtime: str | None, event: AuditEvent
    ) -> Node | None:
        """Set a node's encryption key, and keep the one before. The same key and runtime change nothing.

        Args:
            node_id: Id of the node.
            pem: Public key, normalized.
            thumbprint: RFC 7638 thumbprint of the key.
            runtime: Runtime that has the key; None keeps the recorded one.
            event: Stored with a change; the thumbprints and the runtime are added to its detail.

        Returns:
            The node after the change; None if there is no such node, or it is revoked.
        """
        this = (nodes.c.node_id == node_id, nodes.c.revoked_at.is_(None))
        now = self._clock.now()
        async with self._database.write() as connection:
            found = await connection.execute(select(nodes).where(*this).with_for_update())
            row = found.mappings().first()
            if row is None:
                return None
            before = _node(dict(row))
            after = _with_key(before, pem, thumbprint, runtime or before.runtime)
            if after != before:
                values = {name: getattr(after, name) for name in (*_NO_KEYS, "runtime")}
                await connection.execute(update(nodes).where(*this).values(values))
                await append(connection, now, replace(event, detail={**event.detail, **_key_facts(after)}))
        return after

    async def list(
        self, *, after: str = "", limit: int, containing: str = "", only_active: bool = False
    ) -> Sequence[Node]:
        """Return nodes whose id contains a text, ordered by id, at most `limit` after an id."""
        query = select(nodes).where(nodes.c.node_id > after).order_by(nodes.c.node_id).limit(limit)
        if containing:
            query = query.where(nodes.c.node_id.contains(containing, autoescape=True))
        if only_active:
            query = query.where(nodes.c.revoked_at.is_(None))
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [_node(dict(row)) for row in rows]

    async def count(self) -> tuple[int, int]:
        """Return the number of active nodes, and of revoked ones."""
        query = select(func.count(), func.count(nodes.c.revoked_at)).select_from(nodes)
        async with self._database.read() as connection:
            every, revoked = (await connection.execute(query)).one()
        return every - revoked, revoked


def _node(row: Mapping[str, Any]) -> Node:
    return Node(
        node_id=row["node_id"],
        binding=Binding(row["binding"]),
        secret_hash=row["secret_hash"],
        networks=tuple(ip_network(network) for network in row["networks"]),
        revoked_at=row["revoked_at"],
        reads_zstd=row["reads_zstd"],
        platform=row["platform"],
        encryption_key=row["encryption_key"],
        key_thumbprint=row["key_thumbprint"],
        previous_encryption_key=row["previous_encryption_key"],
        previous_key_thumbprint=row["previous_key_thumbprint"],
        runtime=row["runtime"],
    )


def _with_key(node: Node, pem: str, thumbprint: str, runtime: str | None) -> Node:
    if thumbprint == node.key_thumbprint:
        return replace(node, runtime=runtime)
    return replace(
        node,
        encryption_key=pem,
        key_thumbprint=thumbprint,
        previous_encryption_key=node.encryption_key,
        previous_key_thumbprint=node.key_thumbprint,
        runtime=runtime,
    )


def _key_facts(node: Node) -> Mapping[str, str | None]:
    return {
        "key_thumbprint": node.key_thumbprint,
        "previous_key_thumbprint": node.previous_key_thumbprint,
        "runtime": node.runtime,
    }
