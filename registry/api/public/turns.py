"""Turns of an organization's requests, so that one customer's burst does not delay the others."""

from asyncio import Semaphore
from typing import Final
from weakref import WeakValueDictionary

CONCURRENT_REQUESTS: Final = 4


class OrganizationTurns:
    """Limits the requests of an organization that are processed at the same time; further ones wait.

    A response that was computed does not count, so that a client that reads nothing holds no turn.
    """

    def __init__(self) -> None:
        self._turns: WeakValueDictionary[str, Semaphore] = WeakValueDictionary()

    def of(self, organization: str) -> Semaphore:
        """Return the turns of an organization; they exist while a request uses them."""
        turns = self._turns.get(organization)
        if turns is None:
            turns = self._turns[organization] = Semaphore(CONCURRENT_REQUESTS)
        return turns
