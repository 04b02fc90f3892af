"""Platforms that organizations and groups import (columns `platforms` of `organizations` and `groups`)."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Table, and_, select, update

from auth.audit import EventType
from auth.ports import AuditEvent, Clock
from registry.audit.types import RegistryEventType
from registry.catalog.engine.database import Database
from registry.catalog.events import append
from registry.catalog.tables import groups, organizations
from registry.errors import NotFoundError
from registry.model.groups import GroupKey


class SqlPlatformSettings:
    """Settings of organizations and groups. None means that the next wider setting applies."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def of_organization(self, name: str) -> Sequence[str] | None:
        """Return an organization's platforms. Raises NotFoundError."""
        return await self._read(organizations, organizations.c.name == name)

    async def of_group(self, key: GroupKey) -> Sequence[str] | None:
        """Return a group's own platforms. Raises NotFoundError."""
        return await self._read(groups, _named(key))

    async def set_organization(self, name: str, platforms: Sequence[str] | None, *, source: str) -> None:
        """Set an organization's platforms, with the event. Raises NotFoundError."""
        event = _event(RegistryEventType.ORGANIZATION_UPDATED, name, platforms, source)
        await self._write(organizations, organizations.c.name == name, platforms, event)

    async def set_group(self, key: GroupKey, platforms: Sequence[str] | None, *, source: str) -> None:
        """Set a group's platforms, with the event. Raises NotFoundError."""
        names = {"project": key.project, "group": key.name}
        type_ = RegistryEventType.GROUP_PLATFORMS_CHANGED
        event = _event(type_, key.organization, platforms, source, **names)
        await self._write(groups, _named(key), platforms, event)

    async def _read(self, table: Table, this: ColumnElement[bool]) -> Sequence[str] | None:
        async with self._database.read() as connection:
            row = (await connection.execute(select(table.c.platforms).where(this))).first()
        if row is None:
            raise _no_such(table)
        return list(row.platforms) if row.platforms else None

    async def _write(
        self, table: Table, this: ColumnElement[bool], platforms: Sequence[str] | None, event: AuditEvent
    ) -> None:
        values = {"platforms": list(platforms) if platforms else None}
        async with self._database.write() as connection:
            if (await connection.execute(update(table).where(this).values(values))).rowcount != 1:
                raise _no_such(table)
            await append(connection, self._clock.now(), event)


def _named(key: GroupKey) -> ColumnElement[bool]:
    return and_(
        groups.c.organization == key.organization, groups.c.project == key.project, groups.c.name == key.name
    )


def _event(
    type_: EventType, organization: str, platforms: Sequence[str] | None, source: str, **names: str
) -> AuditEvent:
    detail = {**names, "platforms": list(platforms) if platforms else None}
    return AuditEvent(type_, organization, source=source, detail=detail)


def _no_such(table: Table) -> NotFoundError:
    return NotFoundError(f"the {'organization' if table is organizations else 'group'} does not exist")
