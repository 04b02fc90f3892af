"""The public API's logs: events of imports and instances ("SystemLog", "LogEntry")."""

from datetime import UTC, datetime
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints

from registry.api.endpoint import Call, Endpoint
from registry.api.public.application import GROUP, ORGANIZATION, READ, WRITE, group_key
from registry.api.public.shapes import Name, Omittable, Shape, Uuid
from registry.model.access import KeyScope
from registry.model.group_logs import LogEntry as Entry
from registry.model.groups import Group
from registry.model.log_queries import parse_query
from registry.services.group_logs import MAX_SYSTEM_LOGS, GroupLogs

_MAX_PAGE: Final = 100
_MAX_NAME_LENGTH: Final = 255
_MAX_TEXT_LENGTH: Final = 10_000
#: Limits of SaladCloud's reference, which the published SDK applies to responses.
_CPU: Final = (1, 16)
_MEMORY: Final = (1024, 61440)
_STORAGE: Final = (1 << 30, 268_435_456_000)


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("must be a time between the years 1 and 9999 in UTC") from None


Time = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class SystemLog(Shape):
    """An event of a group ("SystemLog"). The resources are those of the group now."""

    event_name: str
    event_time: datetime
    instance_id: Omittable[Uuid] = None
    machine_id: Omittable[Uuid] = None
    resource_cpu: int | None
    resource_gpu_class: str
    resource_memory: int | None
    resource_storage_amount: int | None
    version: str

    @classmethod
    def of(cls, group: Group, entry: Entry) -> "SystemLog":
        """Present a log entry of a group."""
        resources = group.spec["container"]["resources"]
        classes = resources.get("gpu_classes") or [""]
        return cls(
            event_name=" ".join(entry.text.split())[:_MAX_NAME_LENGTH],
            event_time=entry.position.at,
            instance_id=entry.labels.get("instance_id"),
            machine_id=entry.labels.get("machine_id"),
            resource_cpu=_within(_CPU, resources.get("cpu")),
            resource_gpu_class=classes[0],
            resource_memory=_within(_MEMORY, resources.get("memory")),
            resource_storage_amount=_within(_STORAGE, resources.get("storage_amount")),
            version=entry.labels.get("container_group_version", str(group.version)),
        )


class SystemLogList(Shape):
    """The newest events of a group, newest first ("SystemLogList")."""

    items: Annotated[list[SystemLog], Field(max_length=MAX_SYSTEM_LOGS)]


class LogEntryQuery(Shape):
    """A query for log entries ("LogEntryQuery").

    Attributes:
        end_time: The time before which the entries were written.
        query: Condition in SaladCloud's log query language; empty matches all entries.
        start_time: Earliest time.
    """

    end_time: Time
    page_size: Annotated[int, Field(ge=1, le=_MAX_PAGE)] = _MAX_PAGE
    query: Annotated[str, StringConstraints(max_length=20_000)]
    sort_order: Literal["asc", "desc"] = "desc"
    start_time: Time


class LogEntryResource(Shape):
    """What a log entry is about ("LogEntryResource")."""

    labels: dict[str, str]
    type: str


class LogEntry(Shape):
    """A log entry ("LogEntry")."""

    receive_time: datetime
    resource: LogEntryResource
    severity: Literal[
        "default", "debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"
    ]
    text_log: str
    time: datetime

    @classmethod
    def of(cls, entry: Entry) -> "LogEntry":
        """Present a log entry."""
        return cls(
            receive_time=entry.position.at,
            resource=LogEntryResource(labels=dict(entry.labels), type=entry.origin),
            severity=entry.severity.value,
            text_log=entry.text[:_MAX_TEXT_LENGTH],
            time=entry.position.at,
        )


class LogEntryCollection(Shape):
    """A page of log entries ("LogEntryCollection").

    Attributes:
        page_max_time: The time before which the page ends.
        page_min_time: Earliest time that the page covers.
    """

    items: list[LogEntry]
    organization_name: Name
    page_max_time: datetime
    page_min_time: datetime


class GroupLogsApi:
    """Operations on logs."""

    tag: ClassVar[str] = "logs"

    def __init__(self, logs: GroupLogs) -> None:
        self._logs = logs

    @Endpoint("GET", f"{GROUP}/system-logs", "The newest events of the group, newest first.", errors=READ)
    async def get_system_logs(self, call: Call[None]) -> SystemLogList:
        """Get the system logs of a container group."""
        group, entries = await self._logs.newest(group_key(call))
        return SystemLogList(items=[SystemLog.of(group, entry) for entry in entries])

    @Endpoint(
        "POST", f"{ORGANIZATION}/log-entries", "A page of log entries.", errors=WRITE, scope=KeyScope.READ
    )
    async def query_log_entries(self, call: Call[LogEntryQuery]) -> LogEntryCollection:
        """Query the log entries of an organization.

        The next page starts at `page_min_time` (as `end_time`), or at `page_max_time` (as `start_time`) in
        ascending order.
        """
        wanted, organization = call.body, call.path("organization_name")
        page = await self._logs.query(
            organization,
            parse_query(wanted.query),
            wanted.start_time,
            wanted.end_time,
            ascending=wanted.sort_order == "asc",
            limit=wanted.page_size,
        )
        return LogEntryCollection(
            items=[LogEntry.of(entry) for entry in page.entries],
            organization_name=organization,
            page_max_time=page.end,
            page_min_time=page.start,
        )


def _within(limits: tuple[int, int], value: int | None) -> int | None:
    return value if value is not None and limits[0] <= value <= limits[1] else None
