"""Charts as markup: columns by day as SVG, and bars in a table. Pure functions; no scripts, no inline styles.

Each chart has its numbers as a table. Series differ in pattern, not only in colour.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from markupsafe import Markup

WIDTH: Final = 640
HEIGHT: Final = 180

_TOP, _BOTTOM = 24, 26
_GAP: Final = 0.2  # of the width of a day
_FULL: Final = 100

Show = Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Series:
    """Values by day; days without a value count as 0."""

    name: str
    values: Mapping[date, int]


@dataclass(frozen=True, slots=True)
class Bar:
    """A row of a table of bars.

    Attributes:
        share: Length of the bar, from 0 to 100.
    """

    label: str
    text: str
    share: float


@dataclass(frozen=True, slots=True)
class DayChart:
    """Columns by day, one series on the other.

    Attributes:
        id: Unique on the page.
        show: Formats a value.
    """

    id: str
    title: str
    description: str
    days: Sequence[date]
    series: Sequence[Series]
    show: Show

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(any(series.values.values()) for series in self.series)

    @property
    def total(self) -> str:
        """The sum of all values."""
        return self.show(sum(sum(series.values.values()) for series in self.series))

    @property
    def rows(self) -> Sequence[tuple[str, Sequence[str]]]:
        """The numbers: each day that has any, the newest first, with a text for each series."""
        found = []
        for day in reversed(self.days):
            values = [series.values.get(day, 0) for series in self.series]
            if any(values):
                found.append((day.isoformat(), [self.show(value) for value in values]))
        return found

    @property
    def svg(self) -> Markup:
        """The drawing."""
        sums = [sum(series.values.get(day, 0) for series in self.series) for day in self.days]
        most, width = max(sums), WIDTH / len(self.days)
        floor, height = HEIGHT - _BOTTOM, HEIGHT - _BOTTOM - _TOP
        marks = [_text(0, _TOP - 6, self.show(most)), _line(_TOP, "most"), _line(floor, "floor")]
        for number, day in enumerate(self.days):
            base = float(floor)
            for at, series in enumerate(self.series):
                tall = height * series.values.get(day, 0) / most
                if tall > 0:
                    base -= tall
                    left, wide = (number + _GAP / 2) * width, width * (1 - _GAP)
                    marks.append(_column(left, base, wide, tall, at))
        marks.append(_text(0, HEIGHT - 6, self.days[0].isoformat()))
        marks.append(_text(WIDTH, HEIGHT - 6, self.days[-1].isoformat(), "end"))
        return Markup(
            '<svg class="chart" viewBox="0 0 {w} {h}" role="img" '
            'aria-labelledby="{id}-title {id}-description">{marks}</svg>'
        ).format(w=WIDTH, h=HEIGHT, id=self.id, marks=Markup("").join(marks))


def days_until(today: date, count: int) -> Sequence[date]:
    """Return the last days, the oldest first."""
    return [today - timedelta(days=count - 1 - number) for number in range(count)]


def bars(rows: Sequence[tuple[str, int]], show: Show, *, full: int | None = None) -> Sequence[Bar]:
    """Return the rows of a table of bars.

    Args:
        full: Value of a bar of full length; by default the largest value.
    """
    most = full or max((value for _, value in rows), default=0)
    return [
        Bar(label, show(value), round(min(_FULL, _FULL * value / most), 1) if most else 0.0)
        for label, value in rows
    ]


def bar(share: float) -> Markup:
    """Return the drawing of a bar of a table."""
    return Markup(
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect width="{share}" height="8"/></svg>'
    ).format(share=share)


def _column(left: float, top: float, wide: float, tall: float, series: int) -> Markup:
    shape = Markup('x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}"').format(
        x=left, y=top, w=wide, h=tall
    )
    solid = Markup('<rect class="series-{n}" {shape}/>').format(n=series, shape=shape)
    if series == 0:
        return solid
    stripes = [
        Markup('<line class="stripe" x1="{x:.1f}" x2="{x2:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>').format(
            x=left, x2=left + wide, y=top + offset
        )
        for offset in range(2, int(tall), 4)
    ]
    return Markup("").join([solid, *stripes])


def _line(y: float, kind: str) -> Markup:
    return Markup('<line class="{kind}" x1="0" x2="{w}" y1="{y}" y2="{y}"/>').format(kind=kind, w=WIDTH, y=y)


def _text(x: float, y: float, text: str, anchor: str = "start") -> Markup:
    return Markup('<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>').format(
        x=x, y=y, anchor=anchor, text=text
    )
