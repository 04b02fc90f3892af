"""Assignments of nodes to groups."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import ColumnElement, RowMapping, Select, and_, delete, func, insert, select, update

from auth.ports import AuditEvent, Clock
from registry.catalog.engine.database import CatalogConnection, Database
from registry.catalog.events import append
from registry.catalog.group_rows import GROUP, group_of, lock_group, store_group
from registry.catalog.tables import groups, instance_tokens, instances
from registry.catalog.versions import image_of_version
from registry.model.groups import Group
from registry.model.instances import HAS_IMAGE, UNSETTLED, Instance, InstanceState, KnownBy

# Longer than the lifetime of a token and its session together.
_TOKEN_LIFE: Final = timedelta(hours=26)

_OPEN_TOKENS: Final = 64  # of one instance; older ones are not looked at


@dataclass(frozen=True, slots=True)
class InstanceToken:
    """A token of an instance, and the version that it is for."""

    token_id: str
    version: int


@dataclass(frozen=True, slots=True)
class ListedToken:
    """A token, with the node and the group version that it was minted for."""

    token_id: str
    node_id: str
    organization: str
    project: str
    group: str
    version: int
    minted_at: datetime


class SqlInstances:
    """The tables `instances` and `instance_tokens`.

    An instance changes in one transaction with its event, and only if it has not changed since it was read.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def designate(self, group: Group, node_id: str, version: int, token_id: str) -> Instance:
        """Record a minted token. Creates the node's instance, or keeps it with its state."""
        now = self._clock.now()
        known = select(instances).where(instances.c.group_id == group.id, instances.c.node_id == node_id)
        async with self._database.write() as connection:
            await lock_group(connection, groups.c.id == group.id)
            image_id = await image_of_version(connection, group.id, version)
            row = (await connection.execute(known)).mappings().first()
            changes: dict[str, object] = {"is_watched": True, "checked_at": now}
            if row is None or row["state"] == InstanceState.ALLOCATING.value:
                changes |= {"version": version, "token_id": token_id, "image_id": image_id, "updated_at": now}
            if row is None:
                fresh = {"group_id": group.id, "node_id": node_id, "deletion_cost": 0, "created_at": now}
                row_id, state = str(uuid4()), InstanceState.ALLOCATING.value
                await connection.execute(insert(instances).values(id=row_id, state=state, **fresh, **changes))
            else:
                row_id = row["id"]
                await connection.execute(update(instances).where(instances.c.id == row_id).values(changes))
                over = instance_tokens.c.minted_at < now - _TOKEN_LIFE
                old = and_(instance_tokens.c.instance_id == row_id, over)
                await connection.execute(delete(instance_tokens).where(old))
            token = {"token_id": token_id, "instance_id": row_id, "minted_at": now}
            of_version = {"version": version, "image_id": image_id, "has_ended": False}
            await connection.execute(insert(instance_tokens).values(**token, **of_version))
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

    async def watched(self, limit: int) -> Sequence[tuple[Group, Instance]]:
        """Return instances that an open pull can change, least recently checked first."""
        waiting = (
            select(instances).where(instances.c.is_watched).order_by(instances.c.checked_at).limit(limit)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(waiting)).mappings().all()
            if not rows:
                return []
            ids = {row["group_id"] for row in rows}
            found = (await connection.execute(GROUP.where(groups.c.id.in_(ids)))).mappings().all()
        looked_at = update(instances).where(instances.c.id.in_([row["id"] for row in rows]))
        async with self._database.write() as connection:
            await connection.execute(looked_at.values(checked_at=self._clock.now()))
        owners = {row["id"]: group_of(row) for row in found}
        return [(owners[row["group_id"]], _instance(row)) for row in rows if row["group_id"] in owners]

    async def open_tokens(self, instance_ids: Sequence[str]) -> Mapping[str, Sequence[InstanceToken]]:
        """Return the tokens of instances that are not known to have ended, the newest first."""
        query = _open_tokens(*instance_ids)
        found: dict[str, list[InstanceToken]] = {}
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(instance_tokens.c.minted_at.desc()))
            for row in rows.mappings():
                some = found.setdefault(row["instance_id"], [])
                if len(some) < _OPEN_TOKENS:
                    some.append(InstanceToken(row["token_id"], row["version"]))
        return found

    async def unwatch(self, group: Group, instance: Instance, judged: Collection[str]) -> None:
        """Stop checking an instance, unless another token was minted for it since its tokens were read."""
        unjudged = _open_tokens(instance.id).where(instance_tokens.c.token_id.not_in(judged))
        change = update(instances).where(instances.c.id == instance.id, ~unjudged.exists())
        async with self._database.write() as connection:
            await lock_group(connection, groups.c.id == group.id)
            await connection.execute(change.values(is_watched=False))

    async def end_tokens(self, token_ids: Collection[str]) -> None:
        """Record that tokens and their sessions have ended."""
        ended = update(instance_tokens).where(instance_tokens.c.token_id.in_(token_ids))
        async with self._database.write() as connection:
            await connection.execute(ended.values(has_ended=True))

    async def advance(
        self,
        group: Group,
        before: Instance,
        after: Instance,
        event: Callable[[Instance], AuditEvent] | None,
        *,
        keeps_version: bool = False,
    ) -> Instance | None:
        """Store a changed instance, with its event. The first one with the image makes its group running.

        A new container has the newest version that has the node's image.

        Args:
            event: Returns the event of the stored instance.
            keeps_version: Whether the container, and therefore its version, stays the same.

        Returns:
            The instance, or None if it was changed since it was read: nothing was written.
        """
        now = self._clock.now()
        as_read = and_(
            instances.c.id == before.id,
            instances.c.token_id == before.token_id,
            instances.c.state == before.state.value,
            instances.c.known_by.is_not_distinct_from(before.known_by.value if before.known_by else None),
        )
        async with self._database.write() as connection:
            owner = await lock_group(connection, groups.c.id == group.id)
            if owner is None:
                return None
            image_id = await _image_of(connection, before, after)
            newest = await _newest_version(connection, owner, after.version, image_id)
            changed = replace(after, updated_at=before.updated_at if after.state is before.state else now)
            if changed.state is InstanceState.CREATING and not keeps_version:
                changed = replace(changed, version=newest)
            values: dict[str, object] = {
                "state": changed.state.value,
                "version": changed.version,
                "token_id": changed.token_id,
                "known_by": changed.known_by.value if changed.known_by else None,
                "image_id": image_id,
                "updated_at": changed.updated_at,
                "is_watched": True,
            }
            if changed.state is InstanceState.CREATING:
                values["report"] = {}
            if (await connection.execute(update(instances).where(as_read).values(values))).rowcount != 1:
                return None
            moved = None
            if changed.state in HAS_IMAGE:
                moved = owner.run(newest, now=now)
            elif before.state in HAS_IMAGE and await _made_it_run(connection, owner, before):
                moved = owner.deploy_again(now=now)
            if moved is not None:
                await store_group(connection, moved.group)
            told = [event(changed)] if event else []
            if told and (age_s := await _since_mint_s(connection, before, changed, now)) is not None:
                told = [replace(each, detail={**each.detail, "since_mint_s": age_s}) for each in told]
            await append(connection, now, *told, *([moved.event] if moved else []))
        return changed

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

    async def list_tokens(
        self, limit: int, *, organization: str | None, group: str | None, node_id: str | None
    ) -> Sequence[ListedToken]:
        """Return the newest tokens of all instances, or of those of an organization, group name or node."""
        wanted = (
            (groups.c.organization, organization),
            (groups.c.name, group),
            (instances.c.node_id, node_id),
        )
        query = (
            select(
                instance_tokens.c.token_id,
                instances.c.node_id,
                groups.c.organization,
                groups.c.project,
                groups.c.name.label("group"),
                instance_tokens.c.version,
                instance_tokens.c.minted_at,
            )
            .join(instances, instances.c.id == instance_tokens.c.instance_id)
            .join(groups, groups.c.id == instances.c.group_id)
            .where(*(column == value for column, value in wanted if value is not None))
            .order_by(instance_tokens.c.minted_at.desc())
            .limit(limit)
        )
        async with self._database.read() as connection:
            return [ListedToken(**row) for row in (await connection.execute(query)).mappings()]

    async def lapse(self, group: Group, instance: Instance, event: AuditEvent) -> bool:
        """Delete an instance whose tokens have all ended."""
        waits = instances.c.state.in_(UNSETTLED)
        return await self._free(group, instance, event, waits, ~_open_tokens(instance.id).exists())

    async def free(self, group: Group, instance: Instance, event: AuditEvent) -> bool:
        """Delete an instance."""
        return await self._free(group, instance, event)

    async def _free(
        self, group: Group, instance: Instance, event: AuditEvent, *conditions: ColumnElement[bool]
    ) -> bool:
        gone = delete(instances).where(instances.c.id == instance.id, *conditions)
        async with self._database.write() as connection:
            await lock_group(connection, groups.c.id == group.id)
            if (await connection.execute(gone)).rowcount != 1:
                return False
            await append(connection, self._clock.now(), event)
        return True

    async def free_all(self, group: Group) -> int:
        """Delete all instances of a group. Returns their number."""
        async with self._database.write() as connection:
            return (
                await connection.execute(delete(instances).where(instances.c.group_id == group.id))
            ).rowcount


def _open_tokens(*instance_ids: str) -> Select[Any]:
    return select(instance_tokens).where(
        instance_tokens.c.instance_id.in_(instance_ids), ~instance_tokens.c.has_ended
    )


async def _image_of(connection: CatalogConnection, before: Instance, after: Instance) -> str | None:
    """Return the id of the image for which an instance's token is."""
    query = select(instances.c.image_id).where(instances.c.id == before.id)
    if after.token_id != before.token_id:
        query = select(instance_tokens.c.image_id).where(instance_tokens.c.token_id == after.token_id)
    return (await connection.execute(query)).scalar()


async def _since_mint_s(
    connection: CatalogConnection, before: Instance, after: Instance, now: datetime
) -> float | None:
    """Return the seconds from the mint until the node has the image, or until the container runs first."""
    token = instance_tokens.c.token_id == after.token_id
    if after.state is InstanceState.RUNNING:
        first = update(instance_tokens).where(token, ~instance_tokens.c.has_run).values(has_run=True)
        found = await connection.execute(first.returning(instance_tokens.c.minted_at))
    elif after.state is InstanceState.CREATING and (
        before.state in UNSETTLED or before.token_id != after.token_id
    ):
        found = await connection.execute(select(instance_tokens.c.minted_at).where(token))
    else:
        return None
    minted_at = found.scalar()
    return round((now - minted_at).total_seconds(), 1) if minted_at is not None else None


async def _newest_version(
    connection: CatalogConnection, group: Group, version: int, image_id: str | None
) -> int:
    """Return the newest version with a node's image: the served version, or the node's own."""
    if group.served_version is None:
        return version
    served = await image_of_version(connection, group.id, group.served_version)
    return group.served_version if image_id == served else version


async def _made_it_run(connection: CatalogConnection, group: Group, before: Instance) -> bool:
    """Return whether a group runs because of one instance, which no longer has the image."""
    having = select(instances.c.id).where(instances.c.group_id == group.id, instances.c.state.in_(HAS_IMAGE))
    is_only = (await connection.execute(having.limit(1))).first() is None
    return is_only and group.status_since == before.updated_at  # the times of one transaction


def _instance(row: RowMapping) -> Instance:
    facts = {name: value for name, value in row.items() if name not in {"checked_at", "image_id"}}
    known_by = KnownBy(facts["known_by"]) if facts["known_by"] else None
    return Instance(
        **{**facts, "state": InstanceState(row["state"]), "known_by": known_by},
    )
