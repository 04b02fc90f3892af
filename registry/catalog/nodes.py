"""The table `nodes`."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from auth.coalescer import Coalescer
from auth.ports import AuditEvent, Binding, Clock, Node
from registry.catalog.engine.database import Database
from registry.catalog.engine.plain import PlainSelect
from registry.catalog.events import append
from registry.catalog.tables import NODE_ID_CHARS, nodes, storable
from registry.errors import ConflictError

_LOOKUPS_PACE_S = 0.006  # docs/adr/0049-synchronous-sqlite-in-threads.md
_BY_ID = PlainSelect(nodes, nodes.c.node_id)


class SqlNodeRegistry:
    """The table `nodes`. A node is never removed, so that its id cannot come back as another machine."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        # Those who look up together go on together, through the ledger and the audit trail.
        self._lookups: Coalescer[str, Node | None] = Coalescer(self._look_up, pace_s=_LOOKUPS_PACE_S)

    async def get(self, node_id: str) -> Node | None:
        """Return a node, revoked or not; lookups of one moment share a query."""
        if storable(node_id, NODE_ID_CHARS) != node_id:
            return None  # nobody is called so, and it would spoil the others' query
        return await self._lookups.do(node_id)

    async def add(self, node: Node, event: AuditEvent) -> None:
        """Insert, with the event. Raises ConflictError: the id was used before."""
        now = self._clock.now()
        values = {
            "node_id": node.node_id,
            "binding": node.binding.value,
            "secret_hash": node.secret_hash,
            "networks": [str(network) for network in node.networks],
            "created_at": now,
            "revoked_at": node.revoked_at,
            "reads_zstd": node.reads_zstd,
        }
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(nodes).values(values))
                await append(connection, now, event)
        except IntegrityError as error:
            raise ConflictError(f"the node id {node.node_id!r} was used before; choose another") from error

    async def revoke(self, node_id: str, event: AuditEvent) -> bool:
        """Revoke a node, with the event unless it is revoked already. False when there is none.

        Its id is never given out again.
        """
        now = self._clock.now()
        change = update(nodes).where(nodes.c.node_id == node_id, nodes.c.revoked_at.is_(None))
        async with self._database.write() as connection:
            if (await connection.execute(change.values(revoked_at=now))).rowcount:
                await append(connection, now, event)
                return True
            known = await connection.execute(select(nodes.c.node_id).where(nodes.c.node_id == node_id))
            return known.first() is not None

    async def list(self) -> Sequence[Node]:
        """Return all nodes by id."""
        async with self._database.read() as connection:
            rows = (await connection.execute(select(nodes).order_by(nodes.c.node_id))).mappings().all()
        return [_node(dict(row)) for row in rows]

    async def aclose(self) -> None:
        """Wait until every lookup is answered."""
        await self._lookups.aclose()

    async def _look_up(self, node_ids: Sequence[str]) -> Sequence[Node | None]:
        rows = await self._database.select(_BY_ID, set(node_ids))
        found = {row["node_id"]: _node(row) for row in rows}
        return [found.get(node_id) for node_id in node_ids]


def _node(row: Mapping[str, Any]) -> Node:
    return Node(
        node_id=row["node_id"],
        binding=Binding(row["binding"]),
        secret_hash=row["secret_hash"],
        networks=tuple(ip_network(network) for network in row["networks"]),
        revoked_at=row["revoked_at"],
        reads_zstd=row["reads_zstd"],
    )
