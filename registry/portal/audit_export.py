"""The audit trail as a file: CSV for spreadsheets, and JSON lines for programs. No I/O."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from registry.audit.trail import StoredEvent
from registry.portal.messages import event_sentence

MAX_EVENTS: Final = 100_000
COLUMNS: Final = ("time", "type", "event", "organization", "node", "token", "cause", "source", "detail")

# Spreadsheets take a cell that begins so for a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def columns_of(*, with_source: bool) -> Sequence[str]:
    """Return the columns; network addresses are for operators only."""
    return [name for name in COLUMNS if with_source or name != "source"]


def facts_of(event: StoredEvent) -> Mapping[str, object]:
    """Return an event's facts by column."""
    return {
        "time": event.at.isoformat(),
        "type": event.type,
        "event": event_sentence(event.type),
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
        facts = facts_of(event)
        rows.writerow([_cell(facts[name]) for name in columns])
    return text.getvalue()


def json_lines(events: Sequence[StoredEvent], columns: Sequence[str]) -> str:
    """Return events as JSON documents, one per line."""
    documents = ({name: facts_of(event)[name] for name in columns} for event in events)
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
