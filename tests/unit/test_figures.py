"""The figures in docs/performance.md and README come from the results, with their goals."""

from pathlib import Path

import pytest

from bench.figures import FIGURES, Figure, pull
from bench.readme import fill, headline_table, newest, performance_table

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("figure", "missed"),
    [
        (Figure("time", 1.0, 1.0), False),
        (Figure("time", 1.01, 1.0), True),
        (Figure("rate", 2000, 2000, higher_is_better=True), False),
        (Figure("rate", 1999, 2000, higher_is_better=True), True),
        (Figure("no goal", 5, None), False),
    ],
)
def test_a_figure_that_misses_its_goal_is_marked(figure: Figure, *, missed: bool) -> None:
    assert figure.missed is missed
    assert ("**missed**" in figure.row()) is missed


def test_a_blob_ratio_is_ours_over_the_peers_time() -> None:
    ours = {"gb_per_s": 2.0, "mean_to_slowest_client": 1.0}
    row = {
        "clients": 1,
        "transport": "plain",
        "medians": {"crisper": ours, "distribution": {"gb_per_s": 1.0}},
        "ours_to": {"distribution": {"speed": 2.0, "cpu": 0.5}},
    }
    (figure,) = pull({"rows": [row]})
    assert (figure.value, figure.missed) == (0.5, False)


def test_a_table_replaces_what_is_between_the_markers() -> None:
    text = "a\n<!-- figures -->\nold\n<!-- /figures -->\nb\n"
    filled = fill(text, "new")
    assert filled == "a\n<!-- figures -->\n\nnew\n\n<!-- /figures -->\nb\n"
    assert fill(filled, "new") == filled
    with pytest.raises(ValueError, match="<!-- figures -->"):
        fill("no markers", "new")


def test_the_documents_have_the_figures_of_the_newest_results() -> None:
    results = {kind: result for kind in FIGURES if (result := newest(kind)) is not None}
    assert performance_table(results) in (ROOT / "docs" / "performance.md").read_text()
    assert headline_table(results).count("\n") == 6
