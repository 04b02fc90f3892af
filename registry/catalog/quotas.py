"""Quotas of organizations: defaults, an operator's overrides, usage and the checks of counted quotas."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, RowMapping, Select, func, insert, select, update

from auth.ports import AuditEvent, Clock
from registry.catalog.engine.database import CatalogConnection, Database
from registry.catalog.events import append
from registry.catalog.tables import (
    api_keys,
    blob_keys,
    groups,
    import_charges,
    jobs,
    organizations,
    quotas,
    webhooks,
)
from registry.errors import NotFoundError, QuotaExceededError
from registry.model.groups import Group
from registry.model.quotas import NAMES, UNLIMITED, QuotaReport, Quotas, QuotaUsage

IMPORT_PERIOD: Final = timedelta(hours=24)


class SqlQuotas:
    """The table `quotas`, and what organizations use.

    Args:
        defaults: Quotas of organizations for which the operator has not set another value.
    """

    def __init__(self, database: Database, clock: Clock, defaults: Quotas | None = None) -> None:
        self._database = database
        self._clock = clock
        self._defaults = defaults or Quotas()

    async def of(self, organization: str) -> Quotas:
        """Return an organization's quotas."""
        async with self._database.read() as connection:
            return await self._of(connection, organization)

    async def report(self, organization: str) -> QuotaReport:
        """Return an organization's quotas and their use. Raises NotFoundError."""
        since = self._clock.now() - IMPORT_PERIOD
        usage = select(*(_usage(name, organization, since).label(name) for name in _USAGE))
        created = select(organizations.c.created_at).where(organizations.c.name == organization)
        async with self._database.read() as connection:
            created_at = (await connection.execute(created)).scalar()
            if created_at is None:
                raise NotFoundError(f"There is no organization named {organization!r}.")
            row = await _row(connection, organization)
            used = (await connection.execute(usage)).mappings().one()
        overrides = {name: row[name] for name in NAMES if row[name] is not None} if row else {}
        return QuotaReport(
            limits=self._defaults.with_overrides(overrides),
            overrides=overrides,
            usage=QuotaUsage(**{name: int(value) for name, value in used.items()}),
            created_at=created_at,
            updated_at=row["updated_at"] if row else created_at,
        )

    async def set(self, organization: str, overrides: Mapping[str, int | None], event: AuditEvent) -> None:
        """Change some quotas, with the event. None returns to the default. Raises NotFoundError."""
        now = self._clock.now()
        values: dict[str, object] = {**overrides, "updated_at": now}
        mine = update(quotas).where(quotas.c.organization == organization)
        async with self._database.write() as connection:
            if not await _lock(connection, organization):
                raise NotFoundError(f"There is no organization named {organization!r}.")
            if (await connection.execute(mine.values(values))).rowcount == 0:
                await connection.execute(insert(quotas).values(organization=organization, **values))
            await append(connection, now, event)

    async def check_group(self, connection: CatalogConnection, group: Group, before: Group | None) -> None:
        """Check the quotas of groups and replicas in the transaction that stores a group.

        Call it first in the transaction: it serializes the changes of an organization's usage. A change that
        does not increase the usage is always possible, also after the operator lowered a quota.

        Raises:
            QuotaExceededError: The group would exceed a quota.
        """
        more = {"groups": 0 if before else 1, "replicas": group.replicas - (before.replicas if before else 0)}
        if max(more.values()) <= 0:
            return
        organization = group.key.organization
        await _lock(connection, organization)
        limits = await self._of(connection, organization)
        for name, added in more.items():
            limit = getattr(limits, name)
            if added <= 0 or limit == UNLIMITED:
                continue
            used = int((await connection.execute(select(_usage(name, organization, None)))).scalar_one())
            if used + added > limit:
                raise QuotaExceededError(name, limit, used=used)

    def limit(self, organization: ColumnElement[str], name: str) -> ColumnElement[int]:
        """Return the SQL expression of a quota of the organization in a column; 0 is no limit."""
        mine = select(quotas.c[name]).where(quotas.c.organization == organization)
        return func.coalesce(mine.scalar_subquery(), getattr(self._defaults, name))

    async def _of(self, connection: CatalogConnection, organization: str) -> Quotas:
        row = await _row(connection, organization)
        return self._defaults.with_overrides({name: row[name] for name in NAMES}) if row else self._defaults


async def _row(connection: CatalogConnection, organization: str) -> RowMapping | None:
    query = select(quotas).where(quotas.c.organization == organization)
    return (await connection.execute(query)).mappings().first()


async def _lock(connection: CatalogConnection, organization: str) -> bool:
    """Lock an organization's row. Returns whether the organization exists."""
    query = select(organizations.c.name).where(organizations.c.name == organization)
    return (await connection.execute(query.with_for_update())).first() is not None


_USAGE: Final[Mapping[str, Select[Any]]] = {
    "groups": select(func.count()).select_from(groups),
    "replicas": select(func.coalesce(func.sum(groups.c.replicas), 0)),
    "stored_bytes": select(func.coalesce(func.sum(blob_keys.c.stored_bytes), 0)),
    "imports": select(func.count())
    .select_from(jobs.join(groups, groups.c.id == jobs.c.group_id))
    .where(jobs.c.state == "running"),
    "import_bytes_per_day": select(func.coalesce(func.sum(import_charges.c.size_bytes), 0)),
    "api_keys": select(func.count()).select_from(api_keys).where(api_keys.c.revoked_at.is_(None)),
    "webhooks": select(func.count()).select_from(webhooks),
}
_OWNER: Final = {
    "groups": groups.c.organization,
    "replicas": groups.c.organization,
    "stored_bytes": blob_keys.c.tenant,
    "imports": groups.c.organization,
    "import_bytes_per_day": import_charges.c.organization,
    "api_keys": api_keys.c.organization,
    "webhooks": webhooks.c.organization,
}


def _usage(name: str, organization: str, since: object) -> ColumnElement[int]:
    query = _USAGE[name].where(_OWNER[name] == organization)
    if name == "import_bytes_per_day":
        query = query.where(import_charges.c.charged_at >= since)
    return query.scalar_subquery()
