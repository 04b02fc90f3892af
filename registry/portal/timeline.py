"""A group's events as a timeline: a sentence and the figures of each. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from registry.audit.trail import StoredEvent
from registry.model.durations import readable_duration
from registry.model.group_logs import LogEntry, Severity
from registry.model.imports import Stage
from registry.sizes import readable_bytes

_FAULTS: Final = frozenset({Severity.WARNING, Severity.ERROR})


@dataclass(frozen=True, slots=True)
class Step:
    """One event of a group.

    Attributes:
        figures: Versions, sizes, durations and retries, in words.
        is_fault: Whether it is a failure or a warning.
    """

    at: datetime
    text: str
    figures: Sequence[str]
    node_id: str | None
    is_fault: bool


def timeline_of(events: Sequence[StoredEvent]) -> Sequence[Step]:
    """Return events of a group or its instances as steps, in the given order."""
    return [_step(event) for event in events]


def _step(event: StoredEvent) -> Step:
    entry = LogEntry.of(event)
    detail = event.detail
    figures = [*_version(detail), *_image(detail), *_import(detail.get("import"))]
    return Step(event.at, entry.text, figures, event.node_id, entry.severity in _FAULTS)


def _version(detail: Mapping[str, Any]) -> list[str]:
    words = [f"version {detail['version']}"] if "version" in detail else []
    if isinstance(detail.get("changed"), list):
        names = (
            str(name).rpartition(".")[2].replace("_", " ").replace("-", " ") for name in detail["changed"]
        )
        words.append(f"changed: {', '.join(names)}")
    if "from_version" in detail:
        words.append(f"as in version {detail['from_version']}")
    if detail.get("served_version"):
        words.append(f"nodes get version {detail['served_version']}")
    return words


def _image(detail: Mapping[str, Any]) -> list[str]:
    words = [str(detail["image"])] if "image" in detail else []
    if isinstance(detail.get("size"), int):
        words.append(readable_bytes(detail["size"]))
    zstd = detail.get("zstd")
    if isinstance(zstd, Mapping) and isinstance(zstd.get("size"), int):
        words.append(f"{readable_bytes(zstd['size'])} as zstd")
    return words


def _import(facts: object) -> list[str]:
    """Describe the facts of `registry.model.imports.ImportReport`."""
    if not isinstance(facts, Mapping):
        return []
    stages = [
        f"{stage.value} {readable_duration(facts[f'{stage.value}_s'])}"
        for stage in Stage
        if f"{stage.value}_s" in facts
    ]
    words = [f"took {readable_duration(facts['duration_s'])}: {', '.join(stages)}"]
    if facts.get("layers"):
        layers = f"{facts['layers']} layer{'s' if facts['layers'] > 1 else ''}"
        words.insert(0, f"{layers}, {readable_bytes(facts.get('size_bytes', 0))}")
    if facts.get("attempt"):
        words.append(f"attempt {facts['attempt']}")
    if facts.get("retries"):
        words.append(
            f"waited {facts['retries']} times for the registry, the last time: {facts['last_retry']}"
        )
    return words
