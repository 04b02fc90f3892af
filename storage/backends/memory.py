"""Objects in memory, for unit tests of what lies above."""

import threading
from collections.abc import Collection, Iterator

from storage.errors import BlobNotFoundError, ObjectExistsError


class MemoryBackend:
    """Keeps objects in a dictionary; gone with the process."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.left: dict[str, bytes] = {}
        self.naming = threading.Lock()

    def create(self, name: str, expected_bytes: int | None = None) -> "MemoryObjectWriter":  # noqa: ARG002
        """Start an object that nobody sees before its commit."""
        return MemoryObjectWriter(self, name)

    def open(self, name: str) -> "MemoryObjectReader":
        """Open a visible object. Raises BlobNotFoundError."""
        try:
            return MemoryObjectReader(self.objects[name])
        except KeyError:
            raise BlobNotFoundError("the object is not in storage") from None

    def delete(self, name: str) -> bool:
        """Remove an object; False when there was none."""
        return self.objects.pop(name, None) is not None

    def names(self) -> Iterator[str]:
        """List the visible objects."""
        yield from sorted(self.objects)

    def salvage(self, name: str) -> "MemoryObjectReader | None":
        """Open what a writer left."""
        return MemoryObjectReader(self.left[name]) if name in self.left else None

    def discard(self, name: str) -> None:
        """Remove what a writer left."""
        self.left.pop(name, None)

    def recover(self, keep: Collection[str] = frozenset()) -> int:
        """Remove what writers left, but for `keep`; return how many."""
        gone = self.left.keys() - set(keep)
        for name in gone:
            del self.left[name]
        return len(gone)

    def probe(self) -> None:
        """Memory always answers."""


class MemoryObjectWriter:
    """Bytes on their way in."""

    def __init__(self, backend: MemoryBackend, name: str) -> None:
        self._backend = backend
        self._name = name
        self._data = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        self._data += data

    def commit(self) -> None:
        """Make the object visible. Raises ObjectExistsError."""
        with self._backend.naming:
            if self._name in self._backend.objects:
                raise ObjectExistsError("an object of this name is there already")
            self._backend.objects[self._name] = bytes(self._data)

    def abort(self) -> None:
        """Forget what was written."""
        self._data = bytearray()

    def leave(self) -> None:
        """Keep what was written."""
        self._backend.left[self._name] = bytes(self._data)


class MemoryObjectReader:
    """One object's bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    @property
    def size_bytes(self) -> int:
        """Length of the object."""
        return len(self._data)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` from `offset`; return how much was there before the end."""
        part = self._data[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        """Nothing to release."""
