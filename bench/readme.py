"""Write the measured figures into docs/performance.md, README.md (five) and docs/how-to/sizing.md.

    python -m bench.readme

The figures stand between `<!-- figures -->` and `<!-- /figures -->`, so that none is typed by hand.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from bench.figures import FIGURES, Figure
from bench.results import ROOT, Result, load
from bench.sizing import sizing_table

HEAD: Final = ("| figure | measured | goal | result |", "|---|---|---|---|")
# What README shows: the first figure of each kind whose name starts so.
HEADLINES: Final = (
    ("pull", "blob, 1 client, TLS: time, Crisper / Distribution"),
    ("whole-pull", "whole pull, docker"),
    ("import", "import: "),
    ("redemptions", "redemptions per second"),
    ("memory", "memory of the server, import"),
)


def newest(kind: str, root: Path = ROOT) -> Result | None:
    """Return the newest result of a benchmark that was measured at a commit; None if there is none."""
    return max(load(kind, root).values(), key=lambda result: str(result["date"]), default=None)


def where(result: Result) -> str:
    """Return the machine, day and commit of a result."""
    machine = result["machine"]
    vaes = {True: " with VAES", False: " without VAES", None: ""}[machine.get("vaes")]
    cpu = f"{machine['cores']} cores, {machine['cpu']}{vaes}"
    return f"{cpu}; {result['date'][:10]}, commit {result['commit']}"


def performance_table(results: Mapping[str, Result]) -> str:
    """Return the table of all figures, and where each kind was measured."""
    rows = [figure.row() for kind, result in results.items() for figure in FIGURES[kind](result)]
    sources = [f"- {kind}: {where(result)}" for kind, result in results.items()]
    return "\n".join([*HEAD, *rows, "", "Measured on:", "", *sources])


def headline_table(results: Mapping[str, Result]) -> str:
    """Return the table of five figures for README."""
    rows = [_first(FIGURES[kind](results[kind]), start).row() for kind, start in HEADLINES if kind in results]
    return "\n".join([*HEAD, *rows])


def _first(figures: Iterator[Figure], start: str) -> Figure:
    return next(figure for figure in figures if figure.name.startswith(start))


def fill(text: str, table: str) -> str:
    """Replace the text between the two markers.

    Raises:
        ValueError: The text does not have both markers, once each and in order.
    """
    filled, count = re.subn(
        r"(?<=<!-- figures -->\n).*?(?=<!-- /figures -->)", lambda _: f"\n{table}\n\n", text, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError("the text needs the lines <!-- figures --> and <!-- /figures --> once each")
    return filled


def main() -> None:
    found = {kind: newest(kind) for kind in FIGURES}
    results = {kind: result for kind, result in found.items() if result is not None}
    performance = ROOT / "docs" / "performance.md"
    performance.write_text(fill(performance.read_text(), performance_table(results)))
    readme = ROOT / "README.md"
    readme.write_text(fill(readme.read_text(), headline_table(results)))
    fleet, sizing = newest("fleet"), ROOT / "docs" / "how-to" / "sizing.md"
    if fleet is not None:
        sizing.write_text(fill(sizing.read_text(), f"{sizing_table(fleet)}\n\nMeasured on: {where(fleet)}"))


if __name__ == "__main__":
    main()
