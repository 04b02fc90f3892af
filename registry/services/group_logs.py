"""The use-cases of logs: a group's newest events, and queries over an organization's."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from registry.catalog.group_logs import SqlGroupLogs
from registry.errors import NotFoundError
from registry.model.group_logs import LogEntry
from registry.model.groups import Group, GroupCatalog, GroupKey
from registry.model.log_queries import Predicate

MAX_SYSTEM_LOGS: Final = 50
MAX_READ: Final = 2000
"""Events that one query reads. It bounds the time of a query that matches few of them."""

_CHUNK: Final = 200
_TICK: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class LogPage:
    """Log entries of a time range.

    Attributes:
        start: Earliest time that the page covers.
        end: The time before which it ends.
    """

    entries: Sequence[LogEntry]
    start: datetime
    end: datetime


class GroupLogs:
    """Reads the logs of container groups."""

    def __init__(self, catalog: SqlGroupLogs, groups: GroupCatalog) -> None:
        self._catalog = catalog
        self._groups = groups

    async def newest(self, key: GroupKey) -> tuple[Group, Sequence[LogEntry]]:
        """Return a group, and its newest log entries, newest first. Raises NotFoundError."""
        group = await self._groups.get(key)
        if group is None:
            raise NotFoundError(f"There is no container group named {key.name!r} in project {key.project!r}.")
        found = await self._catalog.newest(group.id, MAX_SYSTEM_LOGS)
        return group, [LogEntry.of(event) for event in found]

    async def query(
        self,
        organization: str,
        predicate: Predicate,
        start: datetime,
        end: datetime,
        *,
        ascending: bool,
        limit: int,
    ) -> LogPage:
        """Return an organization's log entries from `start` until before `end`.

        A page ends after `limit` entries, or after `MAX_READ` events were read. It never ends between two
        entries of the same time, so that the next page can start at its border.
        """
        found: list[LogEntry] = []
        last, read = None, 0
        while True:
            chunk = await self._catalog.between(
                organization, start, end, ascending=ascending, after=last, limit=_CHUNK
            )
            for event in chunk:
                entry = LogEntry.of(event)
                is_full = len(found) >= limit or read >= MAX_READ
                if is_full and last is not None and entry.position.at != last.at:
                    return _page(found, start, end, last.at, ascending=ascending)
                read += 1
                last = entry.position
                if predicate(entry):
                    found.append(entry)
            if len(chunk) < _CHUNK:
                return LogPage(found, start, end)


def _page(
    found: Sequence[LogEntry], start: datetime, end: datetime, last: datetime, *, ascending: bool
) -> LogPage:
    """Return a page of a range that continues after the time `last`."""
    return LogPage(found, start, last + _TICK) if ascending else LogPage(found, last, end)
