"""Policies of organizations for signatures of images (the table `policies`)."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import insert, select, update

from auth.ports import AuditEvent, Clock
from registry.catalog.engine.database import Database
from registry.catalog.events import append
from registry.catalog.tables import organizations, policies
from registry.errors import NotFoundError
from registry.trust.policy import Policy


class SqlPolicies:
    """The table `policies`: one row for each organization, with its policies as JSON."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def of(self, organization: str) -> Sequence[Policy]:
        """Return an organization's policies, in order."""
        query = select(policies.c.policies).where(policies.c.organization == organization)
        async with self._database.read() as connection:
            stored = (await connection.execute(query)).scalar()
        return tuple(map(Policy.load, stored or ()))

    async def show(self, organization: str) -> Sequence[Mapping[str, Any]]:
        """Return an organization's policies as they were set. Raises NotFoundError."""
        named = policies.c.organization == organizations.c.name
        query = select(policies.c.policies).select_from(organizations.outerjoin(policies, named))
        async with self._database.read() as connection:
            row = (await connection.execute(query.where(organizations.c.name == organization))).first()
        if row is None:
            raise _no_such(organization)
        return list(row.policies or ())

    async def set(self, organization: str, new: Sequence[Mapping[str, Any]], event: AuditEvent) -> None:
        """Replace an organization's policies, with the event. Raises NotFoundError."""
        now = self._clock.now()
        values = {"policies": [dict(each) for each in new], "updated_at": now}
        lock = select(organizations.c.name).where(organizations.c.name == organization).with_for_update()
        mine = update(policies).where(policies.c.organization == organization)
        async with self._database.write() as connection:
            if (await connection.execute(lock)).first() is None:
                raise _no_such(organization)
            if (await connection.execute(mine.values(values))).rowcount == 0:
                await connection.execute(insert(policies).values(organization=organization, **values))
            await append(connection, now, event)


def _no_such(organization: str) -> NotFoundError:
    return NotFoundError(f"There is no organization named {organization!r}.")
