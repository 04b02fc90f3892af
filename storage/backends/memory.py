"""Backend in memory, for unit tests."""

import threading
from collections.abc import Collection, Iterator

from storage.errors import BlobNotFoundError, ObjectExistsError


class MemoryBackend:
    """Stores objects in a dictionary."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.left: dict[str, bytes] = {}
        self.naming = threading.Lock()

    def create(self, name: str, expected_bytes: int | None = None) -> "MemoryObjectWriter":  # noqa: ARG002
        """Start an object, which stays invisible until its commit."""
        return MemoryObjectWriter(self, name)

    def open(self, name: str) -> "MemoryObjectReader":
        """Open a visible object. Raises BlobNotFoundError."""
        try:
            return MemoryObjectReader(self.objects[name])
        except KeyError:
            raise BlobNotFoundError("the object is not in storage") from None

    def delete(self, name: str) -> bool:
        """Remove an object. Returns False if there is no such object."""
        return self.objects.pop(name, None) is not None

    def names(self) -> Iterator[str]:
        """List the visible objects."""
        yield from sorted(self.objects)

    def path(self, name: str) -> str:
        """Return the name."""
        return name

    def signed_url(self, name: str, lifetime_s: float) -> str | None:  # noqa: ARG002
        """Return None."""
        return None

    def salvage(self, name: str) -> "MemoryObjectReader | None":
        """Open an unfinished object."""
        return MemoryObjectReader(self.left[name]) if name in self.left else None

    def discard(self, name: str) -> None:
        """Remove an unfinished object."""
        self.left.pop(name, None)

    def recover(self, keep: Collection[str] = frozenset()) -> int:
        """Remove unfinished objects, except for `keep`. Returns their number."""
        gone = self.left.keys() - set(keep)
        for name in gone:
            del self.left[name]
        return len(gone)

    def probe(self) -> None:
        """Do nothing: memory is always available."""

    def probe_writing(self) -> None:
        """Do nothing: memory is always available."""


class MemoryObjectWriter:
    """Writer of one object."""

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
                raise ObjectExistsError("an object with this name already exists")
            self._backend.objects[self._name] = bytes(self._data)

    def abort(self) -> None:
        """Discard the written bytes."""
        self._data = bytearray()

    def leave(self) -> None:
        """Keep the written bytes for `salvage`."""
        self._backend.left[self._name] = bytes(self._data)


class MemoryObjectReader:
    """Reader of one object."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    @property
    def size_bytes(self) -> int:
        """Length of the object."""
        return len(self._data)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` from `offset`. Returns the number of bytes read, fewer at the end of the object."""
        part = self._data[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)

    def fileno(self) -> int | None:
        """Return None: the object is not a local file."""
        return None

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
