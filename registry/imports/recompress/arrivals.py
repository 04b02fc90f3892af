"""What has arrived of an image, for whoever goes on with it while the rest is still on its way."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from itertools import islice
from typing import Final, TypeVar

from registry.model.imports import Progress
from storage.digest import Digest

LOOKED_AT: Final = 20
"""How many of the layers that are waited for are looked at: those under way are among the first ones."""

T = TypeVar("T")


class Arrivals:
    """Passes progress on, and takes from it when to look for layers that have arrived.

    While layers arrive, pulling is what customers see; later stages are told of once all are there.

    Args:
        report: Where progress goes.
        is_there: Asks storage for a layer.
    """

    def __init__(
        self, report: Callable[[Progress], None], is_there: Callable[[Digest], Awaitable[bool]]
    ) -> None:
        self._report = report
        self._is_there = is_there
        self._moved = asyncio.Event()
        self._layers_done = 0
        self._complete = False

    def report(self, progress: Progress) -> None:
        """Take progress of the transfer."""
        if progress.layers_done != self._layers_done:
            self._layers_done = progress.layers_done
            self._moved.set()
        self._report(progress)

    def report_later(self, progress: Progress) -> None:
        """Take progress of what goes on meanwhile."""
        if self._complete:
            self._report(progress)

    async def completed_by(self, transfer: Awaitable[None]) -> None:
        """Await the transfer, after which everything is there."""
        await transfer
        self.complete()

    def complete(self) -> None:
        """Say that everything is there."""
        self._complete = True
        self._moved.set()

    async def next_of(self, waiting: Collection[Digest]) -> Digest:
        """Wait until one of these layers is there, and return it.

        Args:
            waiting: In the order in which they are fetched; at least one.
        """
        while True:
            self._moved.clear()
            for digest in islice(waiting, LOOKED_AT):
                if self._complete or await self._is_there(digest):
                    return digest
            await self._moved.wait()
