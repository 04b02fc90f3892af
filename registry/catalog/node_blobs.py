"""Blobs that nodes got in full in earlier sessions (implements `registry.services.instances.NodeBlobs`)."""

from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import ColumnElement, and_, delete, insert, select
from sqlalchemy.exc import IntegrityError

from auth.ports import Clock
from registry.catalog.engine.database import Database
from registry.catalog.tables import node_blobs, nodes

MAX_BLOBS: Final = 4096
"""Remembered blobs of one node and organization. Of more, the oldest are forgotten."""

_BATCH: Final = 500  # SQLite and PostgreSQL limit the parameters of a statement


class SqlNodeBlobs:
    """The table `node_blobs`.

    Rows belong to an organization, so that the progress of its pulls does not show what others run on the
    same node.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def had(self, organization: str, node_id: str, blobs: Collection[str]) -> Collection[str]:
        """Return those of some keys (`auth.records.blob_key`) whose blobs a node got."""
        query, found = select(node_blobs.c.blob).where(_of(organization, node_id)), set[str]()
        async with self._database.read() as connection:
            for some in _batches(sorted(blobs)):
                found |= set((await connection.execute(query.where(node_blobs.c.blob.in_(some)))).scalars())
        return found

    async def record(
        self, organization: str, node_id: str, gained: Collection[str], lost: Collection[str]
    ) -> None:
        """Add blobs that were delivered in full, and remove those that the node had to request again."""
        mine, now = _of(organization, node_id), self._clock.now()
        oldest = select(node_blobs.c.blob).where(mine).order_by(node_blobs.c.delivered_at.desc())
        named = {"organization": organization, "node_id": node_id, "delivered_at": now}
        rows = [{**named, "blob": blob} for blob in sorted(gained)[:MAX_BLOBS]]
        try:
            async with self._database.write() as connection:
                alive = select(nodes.c.node_id).where(
                    nodes.c.node_id == node_id, nodes.c.revoked_at.is_(None)
                )
                if (await connection.execute(alive.with_for_update())).first() is None:
                    return
                for some in _batches(sorted({*gained, *lost})):
                    await connection.execute(delete(node_blobs).where(mine, node_blobs.c.blob.in_(some)))
                if rows:
                    await connection.execute(insert(node_blobs), rows)
                for some in _batches((await connection.execute(oldest.offset(MAX_BLOBS))).scalars().all()):
                    await connection.execute(delete(node_blobs).where(mine, node_blobs.c.blob.in_(some)))
        except IntegrityError:
            return  # the organization was deleted


def _of(organization: str, node_id: str) -> ColumnElement[bool]:
    return and_(node_blobs.c.organization == organization, node_blobs.c.node_id == node_id)


def _batches(blobs: Sequence[str]) -> list[Sequence[str]]:
    return [blobs[start : start + _BATCH] for start in range(0, len(blobs), _BATCH)]
