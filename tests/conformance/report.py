"""The report: the same text at every run that ends the same way."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.suite import Check
from tests.support.go_programs import version_of

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "docs" / "conformance.txt"

_TOTAL = re.compile(r"^passed (\d+) of (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Section:
    """The checks of one run."""

    title: str
    checks: list[Check]


def failures(sections: Sequence[Section]) -> list[Check]:
    """Return what did not pass."""
    return [check for section in sections for check in section.checks if check.status != "pass"]


def write(sections: Sequence[Section]) -> None:
    """Write the report; checks of one name are counted."""
    total = sum(len(section.checks) for section in sections)
    lines = [
        "OCI distribution-spec conformance, read-only (make conformance)",
        f"suite github.com/opencontainers/distribution-spec/conformance {version_of('conformance')}",
        f"passed {total - len(failures(sections))} of {total}",
    ]
    for section in sections:
        lines += ["", section.title]
        counted = Counter((check.name, check.status) for check in section.checks)
        lines += [f"  {status:8} {count:3}  {name}" for (name, status), count in counted.items()]
    REPORT.write_text("\n".join(lines) + "\n")


def totals() -> tuple[int, int]:
    """Return how many checks passed, and how many there were, in the report as it lies there."""
    found = _TOTAL.search(REPORT.read_text())
    if found is None:
        raise AssertionError(f"{REPORT} has no total")
    return int(found[1]), int(found[2])
