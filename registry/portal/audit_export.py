"""The audit trail as a file: CSV for spreadsheets, and JSON lines for programs. No I/O."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from registry.audit.trail import StoredEvent
from registry.portal.messages import actor_shown, event_sentence

MAX_EVENTS: Final = 100_000
COLUMNS: Final = (
    *("time", "type", "event", "actor", "actor_id", "organization", "node", "token", "cause", "source"),
    "detail",
)

_SOURCE: Final = "source"  # for operators only
# Spreadsheets take a cell that begins so for a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def columns_of(*, with_source: bool) -> Sequence[str]:
    """Return the columns; network addresses are for operators only."""
    return [name for name in COLUMNS if with_source or name != _SOURCE]


def facts_of(event: StoredEvent, *, is_operator: bool) -> Mapping[str, object]:
    """Return an event's facts by column, as operators or customers see them."""
    actor, actor_id = actor_shown(event.actor, is_operator=is_operator)
    return {
        "time": event.at.isoformat(),
        "type": event.type,
        "event": event_sentence(event.type),
        "actor": actor or None,
        "actor_id": actor_id or None,
        "organization": event.organization,
        "node": event.node_id,
        "token": event.token_id,
        "cause": event.cause,
        "source": event.source,
        "detail": dict(event.detail),
    }


def csv_lines(events: Sequence[StoredEvent], columns: Sequence[str]) -> str:
    """Return events as lines of CSV (RFC 4180). No cell is a formula."""
    text = io.StringIO()
    rows = csv.writer(text)
    for event in events:
        facts = facts_of(event, is_operator=_SOURCE in columns)
        rows.writerow([_cell(facts[name]) for name in columns])
    return text.getvalue()


def json_lines(events: Sequence[StoredEvent], columns: Sequence[str]) -> str:
    """Return events as JSON documents, one per line."""
    facts = (facts_of(event, is_operator=_SOURCE in columns) for event in events)
    documents = ({name: each[name] for name in columns} for each in facts)
    return "".join(json.dumps(document, separators=(",", ":")) + "\n" for document in documents)


def csv_head(columns: Sequence[str]) -> str:
    """Return the line with the names of the columns."""
    return ",".join(columns) + "\r\n"


def no_head(_columns: Sequence[str]) -> str:
    """JSON lines begin with the first event."""
    return ""


Lines = Callable[[Sequence[StoredEvent], Sequence[str]], str]
FORMATS: Final[Mapping[str, tuple[str, Callable[[Sequence[str]], str], Lines]]] = {
    "csv": ("text/csv; charset=utf-8", csv_head, csv_lines),
    "jsonl": ("application/jsonl; charset=utf-8", no_head, json_lines),
}
"""Content type, first line and further lines, by the file's suffix."""


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = json.dumps(value, separators=(",", ":")) if isinstance(value, dict) else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
