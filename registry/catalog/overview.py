"""Read-only lists for the portal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, RowMapping, Select, and_, func, or_, select

from registry.audit.trail import StoredEvent
from registry.catalog.engine.database import Database
from registry.catalog.event_times import DISORDER, cursors_around
from registry.catalog.events import read_event
from registry.catalog.tables import (
    blob_keys,
    events,
    groups,
    images,
    jobs,
    organizations,
    quarantine,
    upkeep,
    versions,
)
from registry.catalog.versions import newest_version
from registry.model.groups import GroupKey, GroupStatus


class GroupOrder(StrEnum):
    """Order of a list of groups."""

    NEWEST = "newest"
    OLDEST = "oldest"
    CHANGED = "changed"
    NAME = "name"
    LARGEST = "largest"


@dataclass(frozen=True, slots=True)
class GroupFilter:
    """Filter of groups; None matches all.

    Attributes:
        words: Part of a name or an image; empty matches all.
    """

    organization: str | None = None
    project: str | None = None
    status: GroupStatus | None = None
    words: str = ""
    created_after: datetime | None = None
    order: GroupOrder = GroupOrder.NEWEST


_ORDERS: Final[Mapping[GroupOrder, tuple[ColumnElement[Any], ...]]] = {
    GroupOrder.NEWEST: (groups.c.created_at.desc(),),
    GroupOrder.OLDEST: (groups.c.created_at.asc(),),
    GroupOrder.CHANGED: (groups.c.updated_at.desc(),),
    GroupOrder.NAME: (groups.c.name.asc(), groups.c.organization.asc(), groups.c.project.asc()),
    GroupOrder.LARGEST: (images.c.size_bytes.desc().nulls_last(),),
}


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A container group in a list."""

    key: GroupKey
    image: str
    status: GroupStatus
    description: str
    version: int
    job_id: str
    size_bytes: int | None
    updated_at: datetime
    created_at: datetime
    resume_status: GroupStatus | None = None

    @property
    def shown_status(self) -> GroupStatus:
        """Status of what nodes get: during the import of a further version, that of the one before."""
        return self.resume_status or self.status


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version of a group whose image is stored.

    Attributes:
        image: The reference as the customer wrote it; empty if a server stored the version without it.
        zstd_bytes: Size of its zstd variant; None if it has none.
    """

    version: int
    image: str
    digest: str
    platform: str
    size_bytes: int
    zstd_bytes: int | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StorageUsage:
    """Storage use of one organization. A shared blob counts for each organization."""

    organization: str
    groups: int
    blobs: int
    size_bytes: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Filter of audit events; None matches all.

    Attributes:
        since: Earliest time.
        until: The time before which the events happened.
    """

    type: str | None = None
    organization: str | None = None
    token_id: str | None = None
    node_id: str | None = None
    group_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class SqlOverview:
    """Lists of everything, newest first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def groups(self, wanted: GroupFilter, *, limit: int, offset: int) -> Sequence[GroupRow]:
        """Return the groups of a filter in its order."""
        here = and_(versions.c.group_id == groups.c.id, versions.c.version == newest_version())
        query = (
            select(*(column for column in groups.c if column.name != "spec"), images.c.size_bytes)
            .select_from(groups)
            .outerjoin(versions, here)
            .outerjoin(images, images.c.id == versions.c.image_id)
            .order_by(*_ORDERS[wanted.order], groups.c.id)
            .limit(limit)
            .offset(offset)
        )
        for column, value in (
            (groups.c.organization, wanted.organization),
            (groups.c.project, wanted.project),
            (groups.c.status, wanted.status),
        ):
            if value is not None:
                query = query.where(column == value)
        if wanted.created_after is not None:
            query = query.where(groups.c.created_at >= wanted.created_after)
        if wanted.words:
            names = (groups.c.name, groups.c.project, groups.c.organization, groups.c.image)
            query = query.where(or_(*(name.icontains(wanted.words, autoescape=True) for name in names)))
        return [
            GroupRow(
                GroupKey(row["organization"], row["project"], row["name"]),
                row["image"],
                GroupStatus(row["status"]),
                row["status_description"],
                row["version"],
                row["job_id"],
                row["size_bytes"],
                row["updated_at"],
                row["created_at"],
                GroupStatus(row["resume_status"]) if row["resume_status"] else None,
            )
            for row in await self._rows(query)
        ]

    async def versions(self, group_id: str) -> Sequence[VersionRow]:
        """Return a group's stored versions."""
        query = (
            select(
                versions.c.version,
                versions.c.image,
                images.c.digest,
                images.c.platform,
                images.c.size_bytes,
                images.c.zstd_bytes,
                versions.c.created_at,
            )
            .join(images, images.c.id == versions.c.image_id)
            .where(versions.c.group_id == group_id)
            .order_by(versions.c.version.desc())
            .limit(100)
        )
        return [VersionRow(**row) for row in await self._rows(query)]

    async def was_private(self, group_id: str, image: str) -> bool:
        """Return whether the group's last import of an image reference used credentials."""
        query = (
            select(jobs.c.with_credentials)
            .where(jobs.c.group_id == group_id, jobs.c.image == image)
            .order_by(jobs.c.created_at.desc())
            .limit(1)
        )
        return any(row["with_credentials"] for row in await self._rows(query))

    async def events(
        self, wanted: EventFilter, *, before: int | None = None, limit: int = 50
    ) -> Sequence[StoredEvent]:
        """Return events before a cursor, newest first."""
        query = select(events).order_by(events.c.cursor.desc()).limit(limit)
        if before is not None:
            query = query.where(events.c.cursor < before)
        if wanted.since is not None:
            first, _ = await cursors_around(self._database, wanted.since - DISORDER)
            query = query.where(events.c.at >= wanted.since, events.c.cursor >= first)
        if wanted.until is not None:
            _, last = await cursors_around(self._database, wanted.until + DISORDER)
            query = query.where(events.c.at < wanted.until, events.c.cursor <= last)
        for column, value in (
            (events.c.type, wanted.type),
            (events.c.organization, wanted.organization),
            (events.c.token_id, wanted.token_id),
            (events.c.node_id, wanted.node_id),
            (events.c.group_id, wanted.group_id),
        ):
            if value:
                query = query.where(column == value)
        return [read_event(row) for row in await self._rows(query)]

    async def organizations(self) -> Sequence[str]:
        """Return the names of all organizations."""
        query = select(organizations.c.name).order_by(organizations.c.name).limit(1000)
        return [row["name"] for row in await self._rows(query)]

    async def occupancy(self) -> Sequence[StorageUsage]:
        """Return the storage use of organizations, largest first."""
        owned = select(groups.c.organization, func.count().label("groups")).group_by(groups.c.organization)
        count = owned.subquery()
        query = (
            select(
                blob_keys.c.tenant.label("organization"),
                func.coalesce(func.max(count.c.groups), 0).label("groups"),
                func.count().label("blobs"),
                func.sum(blob_keys.c.size_bytes).label("size_bytes"),
                func.sum(blob_keys.c.stored_bytes).label("stored_bytes"),
            )
            .outerjoin(count, count.c.organization == blob_keys.c.tenant)
            .group_by(blob_keys.c.tenant)
            .order_by(func.sum(blob_keys.c.stored_bytes).desc())
            .limit(100)
        )
        return [
            StorageUsage(
                **{**row, "size_bytes": int(row["size_bytes"]), "stored_bytes": int(row["stored_bytes"])}
            )
            for row in await self._rows(query)
        ]

    async def objects(self) -> tuple[int, int]:
        """Return the number of objects in storage and their bytes. Shared objects count once."""
        each = select(blob_keys.c.object_name, func.max(blob_keys.c.stored_bytes).label("bytes"))
        one = each.group_by(blob_keys.c.object_name).subquery()
        (row,) = await self._rows(
            select(func.count().label("objects"), func.coalesce(func.sum(one.c.bytes), 0).label("bytes"))
        )
        return int(row["objects"]), int(row["bytes"])

    async def wrapping_keys(self) -> Mapping[str, int]:
        """Return the number of data keys that each key-encryption key wraps."""
        query = select(blob_keys.c.kek_id, func.count().label("blobs")).group_by(blob_keys.c.kek_id)
        return {row["kek_id"]: int(row["blobs"]) for row in await self._rows(query)}

    async def imports(self) -> Mapping[str, int]:
        """Count imports by state."""
        query = select(jobs.c.state, func.count().label("jobs")).group_by(jobs.c.state)
        return {row["state"]: int(row["jobs"]) for row in await self._rows(query)}

    async def damaged(self) -> int:
        """Count the objects in quarantine."""
        (row,) = await self._rows(select(func.count().label("damaged")).select_from(quarantine))
        return int(row["damaged"])

    async def chores(self) -> Mapping[str, datetime | None]:
        """Return the time of the last completion of each maintenance task."""
        query = select(upkeep.c.name, upkeep.c.finished_at).order_by(upkeep.c.name)
        return {row["name"]: row["finished_at"] for row in await self._rows(query)}

    async def _rows(self, query: Select[Any]) -> Sequence[RowMapping]:
        async with self._database.read() as connection:
            rows: Sequence[RowMapping] = (await connection.execute(query)).mappings().all()
        return rows
