"""Limit of a node's responses in one process: how many may be open, and how many send at the same time."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field

from registry.errors import RateLimitedError


@dataclass(slots=True)
class _Node:
    turns: asyncio.Semaphore
    open: int = field(default=0)


class NodeConcurrencyLimit:
    """Queues a node's pieces of work by arrival, because clients do not retry a 429.

    A response has a turn while the server reads and sends a piece, and none while it waits for its client. A
    client may therefore read its connections in any order: none waits behind what another has not read.

    Args:
        working: Maximum number of a node's responses that are worked on at the same time.
        most: Maximum number of a node's open responses; further ones are refused.
    """

    def __init__(self, working: int, most: int) -> None:
        self._working = working
        self._most = most
        self._nodes: dict[str, _Node] = {}

    @contextmanager
    def response(self, node_id: str) -> Iterator[AbstractAsyncContextManager[None]]:
        """Open a response of a node. Yields the turns, to be entered for each piece of work.

        Raises:
            RateLimitedError: The node has too many open responses.
        """
        node = self._nodes.setdefault(node_id, _Node(asyncio.Semaphore(self._working)))
        if node.open >= self._most:
            raise RateLimitedError(
                1,
                f"This node has {self._most} open responses, the most that it may have. Retry after the time "
                "in Retry-After.",
            )
        node.open += 1
        try:
            yield node.turns
        finally:
            node.open -= 1
            if not node.open:
                del self._nodes[node_id]
