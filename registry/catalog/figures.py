"""The table `daily_figures`: sums of each day for charts (docs/adr/0082-daily-figures.md)."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Connection, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from registry.catalog.engine.database import Database
from registry.catalog.tables import daily_figures
from registry.model.figures import NODE_RETENTION_DAYS, RETENTION_DAYS, Figure, FigureKey, FigureKind

_KEYS: Final = (
    daily_figures.c.organization,
    daily_figures.c.kind,
    daily_figures.c.day,
    daily_figures.c.label,
)


def add_figures(connection: Connection, figures: Mapping[FigureKey, int]) -> None:
    """Add to the sums of their days, in a transaction.

    The keys are sorted, so that two transactions cannot deadlock.
    """
    if not figures:
        return
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    adding = insert(daily_figures)
    summed = daily_figures.c.amount + adding.excluded.amount
    adding = adding.on_conflict_do_update(index_elements=_KEYS, set_={"amount": summed})
    rows = [{**key._asdict(), "kind": key.kind.value, "amount": figures[key]} for key in sorted(figures)]
    connection.execute(adding, rows)


class SqlFigures:
    """Adds to and reads daily figures. An organization of None means all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, figures: Mapping[FigureKey, int]) -> None:
        """Add to the sums of their days."""
        await self._database.transact(lambda connection: add_figures(connection, figures))

    async def by_day(
        self, kind: FigureKind, since: date, *, organization: str | None = None, label: str | None = None
    ) -> Mapping[date, int]:
        """Return the sum of each day that has figures."""
        query = (
            select(daily_figures.c.day, func.sum(daily_figures.c.amount))
            .where(*_wanted(kind, since, organization))
            .group_by(daily_figures.c.day)
        )
        if label is not None:
            query = query.where(daily_figures.c.label == label)
        async with self._database.read() as connection:
            return {day: int(amount) for day, amount in await connection.execute(query)}

    async def by_label(
        self, kind: FigureKind, since: date, *, organization: str | None = None, limit: int = 100
    ) -> Sequence[Figure]:
        """Return the sum of each label, the largest first."""
        return await self._ranked(daily_figures.c.label, _wanted(kind, since, organization), limit)

    async def by_organization(self, kind: FigureKind, since: date, *, limit: int) -> Sequence[Figure]:
        """Return the sum of each organization, the largest first."""
        return await self._ranked(daily_figures.c.organization, _wanted(kind, since, None), limit)

    async def first_day(self) -> date | None:
        """Return the first day that has imports or pulls; None if there is none."""
        day, kind = daily_figures.c.day, daily_figures.c.kind
        found: list[date] = []
        async with self._database.read() as connection:
            for each in (FigureKind.IMPORT, FigureKind.EGRESS):  # one lookup in an index for each
                first = select(day).where(kind == each.value).order_by(day).limit(1)
                found += (await connection.execute(first)).scalars().all()
        return min(found, default=None)

    async def prune(self, today: date) -> None:
        """Remove figures after their retention; those of nodes are removed earlier, because they are many."""
        async with self._database.write() as connection:
            for kind in FigureKind:
                days = NODE_RETENTION_DAYS if kind is FigureKind.EGRESS_NODE else RETENTION_DAYS
                old = daily_figures.c.day < today - timedelta(days=days)
                await connection.execute(delete(daily_figures).where(daily_figures.c.kind == kind.value, old))

    async def _ranked(
        self, column: ColumnElement[str], wanted: Sequence[ColumnElement[bool]], limit: int
    ) -> Sequence[Figure]:
        amount = func.sum(daily_figures.c.amount)
        query = (
            select(column, amount)
            .where(*wanted)
            .group_by(column)
            .order_by(amount.desc(), column)
            .limit(limit)
        )
        async with self._database.read() as connection:
            return [Figure(label, int(total)) for label, total in await connection.execute(query)]


def _wanted(kind: FigureKind, since: date, organization: str | None) -> Sequence[ColumnElement[bool]]:
    found = [daily_figures.c.kind == kind.value, daily_figures.c.day >= since]
    return found if organization is None else [*found, daily_figures.c.organization == organization]
