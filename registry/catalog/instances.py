"""Assignments of nodes to groups."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final
from uuid import uuid4

from sqlalchemy import RowMapping, and_, delete, func, insert, select, update

from auth.ports import AuditEvent, Clock
from registry.catalog.engine.database import CatalogConnection, Database
from registry.catalog.events import append
from registry.catalog.groups import SUMMARY, lock_group, store_group, summary_of
from registry.catalog.tables import groups, instance_tokens, instances
from registry.catalog.versions import image_of_version
from registry.model.groups import Group
from registry.model.instances import HAS_IMAGE, UNSETTLED, Instance, InstanceState

# Longer than the lifetime of a token and its session together.
_TOKEN_LIFE: Final = timedelta(hours=26)


class SqlInstances:
    """The tables `instances` and `instance_tokens`.

    An instance changes in one transaction with its event, and only if it has not changed since it was read.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def designate(self, group: Group, node_id: str, version: int, token_id: str) -> Instance:
        """Record a minted token. Creates the node's instance, or resets it to its first state."""
        now = self._clock.now()
        renewed: dict[str, object] = {
            "version": version,
            "token_id": token_id,
            "state": InstanceState.ALLOCATING.value,
            "report": {},
            "updated_at": now,
            "checked_at": now,
        }
        known = select(instances).where(instances.c.group_id == group.id, instances.c.node_id == node_id)
        async with self._database.write() as connection:
            await lock_group(connection, groups.c.id == group.id)
            renewed["image_id"] = await image_of_version(connection, group.id, version)
            row = (await connection.execute(known)).mappings().first()
            if row is None:
                fresh = {"group_id": group.id, "node_id": node_id, "deletion_cost": 0, "created_at": now}
                row_id = str(uuid4())
                await connection.execute(insert(instances).values(id=row_id, **fresh, **renewed))
            else:
                row_id = row["id"]
                await connection.execute(update(instances).where(instances.c.id == row_id).values(renewed))
                over = instance_tokens.c.minted_at < now - _TOKEN_LIFE
                old = and_(instance_tokens.c.instance_id == row_id, over)
                await connection.execute(delete(instance_tokens).where(old))
            token = {"token_id": token_id, "instance_id": row_id, "minted_at": now}
            await connection.execute(insert(instance_tokens).values(token))
            row = (await connection.execute(known)).mappings().one()
        return _instance(row)

    async def of_group(self, group_id: str) -> Sequence[Instance]:
        """Return a group's instances, oldest first."""
        query = select(instances).where(instances.c.group_id == group_id)
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(instances.c.created_at, instances.c.id))
            return [_instance(row) for row in rows.mappings()]

    async def get(self, group_id: str, instance_id: str) -> Instance | None:
        """Return one of a group's instances."""
        query = select(instances).where(instances.c.id == instance_id, instances.c.group_id == group_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return _instance(row) if row else None

    async def counts(self, group_ids: Sequence[str]) -> Mapping[str, Mapping[InstanceState, int]]:
        """Count the instances of groups by state. Groups without instances are omitted."""
        query = (
            select(instances.c.group_id, instances.c.state, func.count())
            .where(instances.c.group_id.in_(group_ids))
            .group_by(instances.c.group_id, instances.c.state)
        )
        counted: dict[str, dict[InstanceState, int]] = {}
        async with self._database.read() as connection:
            for group_id, state, count in await connection.execute(query):
                counted.setdefault(group_id, {})[InstanceState(state)] = count
        return counted

    async def unsettled(self, limit: int) -> Sequence[tuple[Group, Instance]]:
        """Return instances in allocation or download, least recently checked first.

        Their groups have no spec, which would be up to a mebibyte each.
        """
        waiting = (
            select(instances)
            .where(instances.c.state.in_(UNSETTLED))
            .order_by(instances.c.checked_at)
            .limit(limit)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(waiting)).mappings().all()
            if not rows:
                return []
            ids = {row["group_id"] for row in rows}
            found = (await connection.execute(SUMMARY.where(groups.c.id.in_(ids)))).mappings().all()
        looked_at = update(instances).where(instances.c.id.in_([row["id"] for row in rows]))
        async with self._database.write() as connection:
            await connection.execute(looked_at.values(checked_at=self._clock.now()))
        owners = {row["id"]: summary_of(row) for row in found}
        return [(owners[row["group_id"]], _instance(row)) for row in rows if row["group_id"] in owners]

    async def advance(
        self,
        group: Group,
        instance: Instance,
        state: InstanceState,
        event: AuditEvent,
        *,
        keeps_version: bool = False,
    ) -> bool:
        """Set an instance's state, with the event. The first one with the image makes its group running.

        A new container has the newest version that has the node's image.

        Args:
            keeps_version: Whether the container, and therefore its version, stays the same.
        """
        now = self._clock.now()
        as_read = and_(
            instances.c.id == instance.id,
            instances.c.token_id == instance.token_id,
            instances.c.state == instance.state.value,
        )
        change = update(instances).where(as_read).values(state=state.value, updated_at=now)
        if state is InstanceState.CREATING:
            change = change.values(report={})
        async with self._database.write() as connection:
            owner = await lock_group(connection, groups.c.id == group.id)
            if owner is None:
                return False
            newest = await _newest_version(connection, owner, instance)
            if state is InstanceState.CREATING and not keeps_version:
                change = change.values(version=newest)
            if (await connection.execute(change)).rowcount != 1:
                return False
            running = owner.run(newest, now=now) if state in HAS_IMAGE else None
            if running is not None:
                await store_group(connection, running.group)
            await append(connection, now, event, *([running.event] if running else []))
        return True

    async def store_report(self, instance: Instance, report: Mapping[str, object]) -> bool:
        """Store what a scheduler has reported. Returns False if there is no such instance."""
        same = and_(instances.c.id == instance.id, instances.c.token_id == instance.token_id)
        change = update(instances).where(same).values(report=dict(report))
        async with self._database.write() as connection:
            return (await connection.execute(change)).rowcount == 1

    async def set_deletion_cost(self, instance_id: str, cost: int, event: AuditEvent) -> bool:
        """Change an instance's deletion cost, with the event. Returns False if there is no such instance."""
        change = update(instances).where(instances.c.id == instance_id).values(deletion_cost=cost)
        async with self._database.write() as connection:
            if (await connection.execute(change)).rowcount != 1:
                return False
            await append(connection, self._clock.now(), event)
        return True

    async def tokens(self, instance_id: str) -> Sequence[str]:
        """Return all tokens of an instance that may still be valid."""
        query = select(instance_tokens.c.token_id).where(instance_tokens.c.instance_id == instance_id)
        alive = instance_tokens.c.minted_at >= self._clock.now() - _TOKEN_LIFE
        async with self._database.read() as connection:
            return (await connection.execute(query.where(alive))).scalars().all()

    async def free(self, instance: Instance, event: AuditEvent) -> bool:
        """Delete an instance."""
        gone = and_(instances.c.id == instance.id, instances.c.token_id == instance.token_id)
        async with self._database.write() as connection:
            if (await connection.execute(delete(instances).where(gone))).rowcount != 1:
                return False
            await append(connection, self._clock.now(), event)
        return True

    async def free_all(self, group: Group) -> int:
        """Delete all instances of a group. Returns their number."""
        async with self._database.write() as connection:
            return (
                await connection.execute(delete(instances).where(instances.c.group_id == group.id))
            ).rowcount


async def _newest_version(connection: CatalogConnection, group: Group, instance: Instance) -> int:
    """Return the newest version with the image of an instance's node: the served version, or its own."""
    if group.served_version is None:
        return instance.version
    served = await image_of_version(connection, group.id, group.served_version)
    query = select(instances.c.image_id).where(instances.c.id == instance.id)
    has_served = (await connection.execute(query)).scalar() == served
    return group.served_version if has_served else instance.version


def _instance(row: RowMapping) -> Instance:
    facts = {name: value for name, value in row.items() if name not in {"checked_at", "image_id"}}
    return Instance(**{**facts, "state": InstanceState(row["state"])})
