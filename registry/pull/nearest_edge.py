"""The edge cache near a node, by the node's address."""

import time
from collections.abc import Callable
from typing import Final

import structlog

from registry.errors import CatalogUnavailableError
from registry.model.edges import Edge, EdgeMap, EdgeRecords

REFRESH_S: Final = 2.0
"""Time after which a new edge gets nodes, and a deleted one gets no more."""

_log = structlog.get_logger(__name__)


class NearestEdge:
    """Finds edges, which are read from the catalog every `REFRESH_S`.

    Args:
        now: Monotonic seconds.
    """

    def __init__(self, records: EdgeRecords, now: Callable[[], float] = time.monotonic) -> None:
        self._records = records
        self._now = now
        self._edges = EdgeMap()
        self._read_at = float("-inf")

    async def of(self, source: str) -> Edge | None:
        """Return the edge for an address; None if no edge serves it.

        While one request reads the edges again, and without the catalog, others use those that were read
        before: an edge is no permission.
        """
        if self._now() - self._read_at >= REFRESH_S:
            self._read_at = self._now()
            try:
                self._edges = EdgeMap(await self._records.list())
            except CatalogUnavailableError as error:
                _log.warning("edges.not_read", error=type(error).__name__)
        return self._edges.find(source)
