"""Logs of container groups: what the audit trail has about groups and instances, for their owner."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID, uuid5

from registry.audit.trail import StoredEvent
from registry.audit.types import EVENT_TYPES

_NODES: Final = UUID("5f0a8a2b-6a55-5d5c-9f41-0f8c1d2e7b63")
_LABELS: Final = {
    "project": "project_name",
    "group": "container_group_name",
    "version": "container_group_version",
    "instance_id": "instance_id",
}


class Severity(StrEnum):
    """Severities of log entries, the least severe first."""

    DEFAULT = "default"
    DEBUG = "debug"
    INFO = "info"
    NOTICE = "notice"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"
    ALERT = "alert"
    EMERGENCY = "emergency"


_SEVERITIES: Final = {
    "group.failed": Severity.ERROR,
    "instance.lapsed": Severity.WARNING,
    "instance.reallocated": Severity.NOTICE,
}


class LogPosition(NamedTuple):
    """Position of a log entry: its time, and its place in the audit trail."""

    at: datetime
    cursor: int


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An event of a group or of an instance, as its owner sees it.

    Attributes:
        origin: SaladCloud's type of resource: `deployment_controller` for groups, `instance_controller` for
            instances.
        labels: Names and ids of the group and the instance.
    """

    position: LogPosition
    origin: str
    labels: Mapping[str, str]
    severity: Severity
    text: str

    @classmethod
    def of(cls, event: StoredEvent) -> "LogEntry":
        """Return the log entry of an event."""
        labels = {label: str(event.detail[name]) for name, label in _LABELS.items() if name in event.detail}
        if event.node_id is not None:
            labels["machine_id"] = machine_id(event.node_id)
        return cls(
            LogPosition(event.at, event.cursor),
            "deployment_controller" if event.type.startswith("group.") else "instance_controller",
            labels,
            _severity(event),
            _text(event),
        )


def _severity(event: StoredEvent) -> Severity:
    if event.detail.get("trusted") is False:
        return Severity.WARNING  # imported, although its policy does not accept it
    return _SEVERITIES.get(event.type, Severity.INFO)


def machine_id(node_id: str) -> str:
    """Return a node's id if it is a UUID, which SaladCloud's API requires; else a UUID derived from it."""
    try:
        return str(UUID(node_id))
    except ValueError:
        return str(uuid5(_NODES, node_id))


def is_logged(type_: str) -> bool:
    """Return whether the owner of a group reads events of this type in its logs."""
    return type_.startswith(("group.", "instance."))


def _text(event: StoredEvent) -> str:
    known = EVENT_TYPES.get(event.type)
    sentence = known.sentence if known is not None else event.type
    facts = (event.cause, event.detail.get("sentence"))
    return ": ".join([sentence, *(str(fact) for fact in facts if fact)])
