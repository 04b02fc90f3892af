"""Page with charts of what was imported, stored and pulled (docs/adr/0082-daily-figures.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from aiohttp import web

from registry.catalog.figures import SqlFigures
from registry.model.access import Role
from registry.model.durations import readable_duration
from registry.model.figures import BUCKETS_S, SUCCEEDED, FigureKind
from registry.model.quotas import UNLIMITED
from registry.portal import messages
from registry.portal.charts import Bar, DayChart, Series, bars, days_until
from registry.portal.services import Views
from registry.portal.sessions import SignedInUser
from registry.sizes import readable_bytes

ACTIVITY: Final = "/activity"
PERIODS: Final = (7, 30, 90)
RANKED: Final = 10

_USUAL: Final = 30
_TIMES: Final[Mapping[FigureKind, str]] = {
    FigureKind.STORED_TIME: "From the request until the image is stored",
    FigureKind.IMPORT_TIME: "Duration of imports",
    FigureKind.PULL_TIME: "From the mint until the node has the image",
    FigureKind.START_TIME: "From the mint until the container runs",
}


@dataclass(frozen=True, slots=True)
class BarTable:
    """Bars in a table.

    Attributes:
        columns: Headings of the labels and of the values.
        empty: What to say if there are no rows.
    """

    title: str
    columns: tuple[str, str]
    rows: Sequence[Bar]
    empty: str


@dataclass(frozen=True, slots=True)
class _Scope:
    """What the page is about."""

    figures: SqlFigures
    days: Sequence[date]
    organization: str | None

    async def by_day(self, kind: FigureKind) -> Mapping[date, int]:
        return await self.figures.by_day(kind, self.days[0], organization=self.organization)

    async def by_label(self, kind: FigureKind, limit: int = 100) -> list[tuple[str, int]]:
        found = await self.figures.by_label(kind, self.days[0], organization=self.organization, limit=limit)
        return [(each.label, each.amount) for each in found]


class ActivityViews(Views):
    """View of the charts."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.get(ACTIVITY, self._guard.show(self.show, needs=Role.VIEWER))]

    async def show(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Show the charts of an organization, or to operators of all."""
        count = next((each for each in PERIODS if str(each) == request.query.get("days")), _USUAL)
        chosen = request.query.get("organization", "")[:63] if visitor.is_operator else None
        organization = visitor.caller.organization or chosen or None
        days = days_until(self._services.clock.now().date(), count)
        scope = _Scope(self._services.figures, days, organization)
        return self._pages.page(
            "activity.html",
            visitor,
            period=count,
            periods=PERIODS,
            organization=organization,
            organizations=await self._services.overview.organizations() if visitor.is_operator else [],
            since=await self._services.figures.first_day(),
            day_charts=[await _egress(scope), await _imports(scope), await _pulls(scope)],
            tables=[
                await self._receivers(scope),
                await self._storage(organization),
                await _reasons(scope),
                await _causes(scope),
                *[await _times(scope, kind, title) for kind, title in _TIMES.items()],
            ],
        )

    async def _receivers(self, scope: _Scope) -> BarTable:
        if scope.organization is not None:
            rows, one = await scope.by_label(FigureKind.EGRESS_GROUP, RANKED), "Group"
        else:
            found = await scope.figures.by_organization(FigureKind.EGRESS, scope.days[0], limit=RANKED)
            rows, one = [(each.label, each.amount) for each in found], "Organization"
        title = f"{one}s with the most data sent to nodes"
        return BarTable(title, (one, "Sent"), bars(rows, readable_bytes), _NO_PULLS)

    async def _storage(self, organization: str | None) -> BarTable:
        if organization is None:
            used = await self._services.overview.occupancy()
            rows = [(each.organization, each.stored_bytes) for each in used[:RANKED]]
            return BarTable("Storage", ("Organization", "Stored"), bars(rows, readable_bytes), _NO_IMPORTS)
        report = await self._services.quotas.report(organization)
        used_bytes, limit = report.usage.stored_bytes, report.limits.stored_bytes
        of = "no limit" if limit == UNLIMITED else f"{readable_bytes(limit)} allowed"
        full = None if limit == UNLIMITED else limit
        shown = bars([("Stored", used_bytes)], lambda value: f"{readable_bytes(value)}, {of}", full=full)
        return BarTable("Storage and quota", ("", "Used"), shown, _NO_IMPORTS)


_NO_PULLS: Final = "No node has pulled yet in this period."
_NO_IMPORTS: Final = "No import has ended yet in this period."
_NO_REFUSALS: Final = "Nothing was refused in this period."


async def _egress(scope: _Scope) -> DayChart:
    return DayChart(
        "egress",
        "Data sent to nodes",
        "Bytes of layers that nodes received on each day (UTC). The chart fills within seconds of a pull.",
        scope.days,
        [Series("Sent", await scope.by_day(FigureKind.EGRESS))],
        readable_bytes,
    )


async def _imports(scope: _Scope) -> DayChart:
    ended = await scope.by_day(FigureKind.IMPORT)
    stored = await scope.figures.by_day(
        FigureKind.IMPORT, scope.days[0], organization=scope.organization, label=SUCCEEDED
    )
    failed = {day: count - stored.get(day, 0) for day, count in ended.items()}
    return DayChart(
        "imports",
        "Imports",
        "Imports that ended on each day (UTC). The chart fills when an import ends.",
        scope.days,
        [Series("Stored", stored), Series("Failed", failed)],
        _plain,
    )


async def _pulls(scope: _Scope) -> DayChart:
    return DayChart(
        "pulls",
        "Redeemed and refused",
        "Pull tokens that nodes redeemed, and requests that were refused, on each day (UTC).",
        scope.days,
        [
            Series("Redeemed", await scope.by_day(FigureKind.REDEEMED)),
            Series("Refused", await scope.by_day(FigureKind.REFUSED)),
        ],
        _plain,
    )


async def _reasons(scope: _Scope) -> BarTable:
    rows = [(label, count) for label, count in await scope.by_label(FigureKind.IMPORT) if label != SUCCEEDED]
    return BarTable("Why imports failed", ("Reason", "Imports"), bars(rows, _plain), "No import has failed.")


async def _causes(scope: _Scope) -> BarTable:
    rows = [
        (messages.cause_sentence(cause), count) for cause, count in await scope.by_label(FigureKind.REFUSED)
    ]
    return BarTable("Why pulls were refused", ("Cause", "Requests"), bars(rows, _plain), _NO_REFUSALS)


async def _times(scope: _Scope, kind: FigureKind, title: str) -> BarTable:
    counts = dict(await scope.by_label(kind))
    rows = [(_range(number), counts.get(str(number), 0)) for number in range(len(BUCKETS_S) + 1)]
    shown = bars(rows, _plain) if counts else []
    what = "Imports" if kind in {FigureKind.STORED_TIME, FigureKind.IMPORT_TIME} else "Nodes"
    return BarTable(title, ("Time", what), shown, _NO_IMPORTS if what == "Imports" else _NO_PULLS)


def _range(bucket: int) -> str:
    if bucket == len(BUCKETS_S):
        return f"more than {readable_duration(BUCKETS_S[-1])}"
    return f"up to {readable_duration(BUCKETS_S[bucket])}"


def _plain(count: int) -> str:
    return f"{count:,}"
