"""Charts as markup."""

import re
from datetime import date
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from registry.portal.charts import HEIGHT, WIDTH, DayChart, Series, bar, bars, days_until

TODAY = date(2026, 12, 1)
DAYS = days_until(TODAY, 30)


def chart(*series: Series, title: str = "Imports") -> DayChart:
    return DayChart("imports", title, "Imports of each day.", DAYS, series, "{:,}".format)


def drawing(made: DayChart) -> ET.Element:
    return ET.fromstring(str(made.svg))  # noqa: S314 (it is our own)


def test_the_days_end_today() -> None:
    assert (len(DAYS), DAYS[0], DAYS[-1]) == (30, date(2026, 11, 2), TODAY)


def test_columns_stand_on_each_other_and_the_numbers_are_a_table() -> None:
    made = chart(Series("Stored", {TODAY: 30, DAYS[0]: 10}), Series("Failed", {TODAY: 10}))
    drawn = drawing(made)
    first, stored, failed = drawn.findall("rect")
    assert (first.get("class"), stored.get("class"), failed.get("class")) == (
        "series-0",
        "series-0",
        "series-1",
    )
    top, tall = float(failed.get("y", "")), float(failed.get("height", ""))
    assert abs(top + tall - float(stored.get("y", ""))) < 0.2
    assert len(drawn.findall("line[@class='stripe']")) > 3, "series differ in pattern too"
    assert made.rows == [("2026-12-01", ["30", "10"]), ("2026-11-02", ["10", "0"])]
    assert made.total == "50"


def test_nothing_is_drawn_of_nothing() -> None:
    assert chart(Series("Stored", {}), Series("Failed", {TODAY: 0})).is_empty


@given(st.dictionaries(st.sampled_from(DAYS), st.integers(1, 10**15), min_size=1))
def test_every_column_is_inside_the_drawing(values: dict[date, int]) -> None:
    drawn = drawing(chart(Series("Sent", values)))
    assert len(drawn.findall("rect")) == len(values)
    for column in drawn.findall("rect"):
        left, top, wide, tall = (float(column.get(name, "")) for name in ("x", "y", "width", "height"))
        assert 0 <= left <= left + wide <= WIDTH + 0.2
        assert 0 <= top <= top + tall <= HEIGHT


def test_no_text_becomes_markup() -> None:
    made = DayChart('"><b>', "", "", DAYS, [Series("x", {TODAY: 1})], lambda _: "<script>")
    assert "<script>" not in made.svg
    assert "<b>" not in made.svg
    assert not re.search(r"style=|on\w+=", made.svg)


def test_bars_are_shares_of_the_largest_or_of_the_limit() -> None:
    assert [each.share for each in bars([("a", 50), ("b", 25), ("c", 0)], str)] == [100.0, 50.0, 0.0]
    assert [each.share for each in bars([("a", 50)], str, full=200)] == [25.0]
    assert [each.share for each in bars([("a", 300)], str, full=200)] == [100.0]
    assert [each.share for each in bars([("a", 0)], str)] == [0.0]
    assert 'width="25.0"' in bar(25.0)
