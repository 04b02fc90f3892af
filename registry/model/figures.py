"""Daily figures for charts: what is counted of each event. No I/O (docs/adr/0082-daily-figures.md)."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, Final, NamedTuple

MAX_LABEL_CHARS: Final = 191


class FigureKind(StrEnum):
    """What a figure counts, and what its label names."""

    EGRESS = "egress"  # bytes to nodes; without a label
    EGRESS_GROUP = "egress_group"  # bytes to nodes, by group
    EGRESS_NODE = "egress_node"  # bytes to nodes, by node
    IMPORT = "import"  # imports that ended, by outcome
    IMPORT_TIME = "import_time"  # imports that succeeded, by the bucket of their duration
    STORED_TIME = "stored_time"  # the same, by the bucket of the time since the request
    REDEEMED = "redeemed"  # tokens that were redeemed
    REFUSED = "refused"  # refused pulls, by cause
    PULL_TIME = "pull_time"  # nodes that got an image, by the bucket of the time since the mint
    START_TIME = "start_time"  # first starts of a container, by the bucket of the time since the mint


SUCCEEDED: Final = "stored"
"""Label of an import that succeeded. Those that failed have their reason."""

BUCKETS_S: Final = (1, 5, 15, 60, 300, 900, 3600)
"""Upper limits of the buckets of durations, in seconds; there is one more for all longer ones."""


RETENTION_DAYS: Final = 400
NODE_RETENTION_DAYS: Final = 90


class FigureKey(NamedTuple):
    """Key of a figure; its organization is empty for events of callers who are not known."""

    day: date
    organization: str
    kind: FigureKind
    label: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a day, or of several.

    Attributes:
        amount: Number of events, or bytes of egress.
    """

    label: str
    amount: int


def bucket_of(seconds: float) -> str:
    """Return the label of the bucket of a duration: the bucket's number."""
    return str(bisect_left(BUCKETS_S, seconds))


def figures_of(rows: Iterable[Mapping[str, Any]]) -> Mapping[FigureKey, int]:
    """Count events.

    Args:
        rows: Rows of the table `events`.
    """
    found: Counter[FigureKey] = Counter()
    for row in rows:
        for kind, label in _counted(row["type"], row["cause"], row["detail"]):
            key = FigureKey(row["at"].date(), row["organization"] or "", kind, label[:MAX_LABEL_CHARS])
            found[key] += row["detail"].get("suppressed", 1)
    return found


def _counted(type_: str, cause: str | None, detail: Mapping[str, Any]) -> Iterator[tuple[FigureKind, str]]:
    """Return the kinds and labels under which an event counts."""
    if type_ == "token.redeemed":
        yield FigureKind.REDEEMED, ""
    elif type_ == "token.refused":
        yield FigureKind.REFUSED, cause or "unknown"
    elif type_ == "group.failed":
        yield FigureKind.IMPORT, cause or "unknown"
    elif type_ == "group.imported":
        yield FigureKind.IMPORT, SUCCEEDED
        report = detail.get("import", {})
        yield from _timed(FigureKind.IMPORT_TIME, report.get("duration_s"))
        yield from _timed(FigureKind.STORED_TIME, report.get("since_request_s"))
    elif type_ == "instance.creating":
        yield from _timed(FigureKind.PULL_TIME, detail.get("since_mint_s"))
    elif type_ == "instance.running":
        yield from _timed(FigureKind.START_TIME, detail.get("since_mint_s"))


def _timed(kind: FigureKind, seconds: object) -> Iterator[tuple[FigureKind, str]]:
    if isinstance(seconds, int | float):
        yield kind, bucket_of(seconds)
