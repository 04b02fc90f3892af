"""Asynchronous access to the backend's objects, through worker threads."""

from collections.abc import AsyncIterator, Collection, Iterator
from itertools import islice

from storage.errors import BlobNotFoundError
from storage.ports import BlobBackend
from storage.threads import Threads

LISTING_PIECE = 1000


class Objects:
    """Lists, measures and removes objects, for garbage collection and inspection."""

    def __init__(self, backend: BlobBackend, threads: Threads) -> None:
        self._backend = backend
        self._threads = threads

    async def pieces(self) -> AsyncIterator[list[str]]:
        """Yield the names of visible objects in batches. Raises StorageUnavailableError."""
        names = self._backend.names()
        while piece := await self._threads.run(_take, names):
            yield piece

    async def size(self, name: str) -> int | None:
        """Return an object's length in bytes, or None if there is no such object."""
        return await self._threads.run(self._size, name)

    async def delete(self, name: str) -> bool:
        """Remove an object. Returns False if there is no such object."""
        return await self._threads.run(self._backend.delete, name)

    async def remove_leftovers(self, keep: Collection[str] = frozenset()) -> int:
        """Remove unfinished objects of dead writers, except for `keep`. Returns their number."""
        return await self._threads.run(self._backend.recover, keep)

    def _size(self, name: str) -> int | None:
        try:
            reader = self._backend.open(name)
        except BlobNotFoundError:
            return None
        try:
            return reader.size_bytes
        finally:
            reader.close()


def _take(names: Iterator[str]) -> list[str]:
    return list(islice(names, LISTING_PIECE))
