"""Limit of a node's concurrent blob responses in one process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

_LOOK_S = 1.0


@dataclass(slots=True)
class _Node:
    slots: asyncio.Semaphore
    holders: int = field(default=0)


class NodeConcurrencyLimit:
    """Queues a node's excess responses instead of failing them, because clients do not retry a 429.

    Args:
        limit: Maximum number of a node's concurrent responses.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._nodes: dict[str, _Node] = {}

    @asynccontextmanager
    async def slot(self, request: web.Request, node_id: str) -> AsyncIterator[None]:
        """Wait for a free slot of the node, until its client disconnects.

        Raises:
            ConnectionResetError: The client disconnected meanwhile.
        """
        node = self._nodes.setdefault(node_id, _Node(asyncio.Semaphore(self._limit)))
        node.holders += 1
        try:
            await _acquire(node.slots, request)
            try:
                yield
            finally:
                node.slots.release()
        finally:
            node.holders -= 1
            if not node.holders:
                del self._nodes[node_id]


async def _acquire(slots: asyncio.Semaphore, request: web.Request) -> None:
    while True:
        try:
            async with asyncio.timeout(_LOOK_S):
                await slots.acquire()
                return
        except TimeoutError:
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError("the client disconnected while it waited") from None
