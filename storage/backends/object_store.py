"""Objects in a bucket: S3, Google Cloud Storage, Azure Blob Storage (docs/storage.md).

A small object is one conditional PUT. A larger one is a multipart upload under its own name, which the store
shows to nobody before it is complete; names are never used twice (docs/blob-format.md, "object name").
"""

import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress

import obstore
from obstore import exceptions
from obstore.store import AzureStore, GCSStore, S3Store

from storage.backends.multipart import MultipartUpload
from storage.errors import (
    BlobNotFoundError,
    ObjectExistsError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)

Bucket = S3Store | GCSStore | AzureStore

PART_BYTES = 8 << 20
_MAX_PARTS = 9_000  # the services take 10,000
_MIB = 1 << 20
_HEAD_BYTES = 64 << 10
_NAME = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PROBE = "probe"
_NEVER_WRITTEN = "0" * 64


class ObjectStoreBackend:
    """Keeps objects in one bucket, under one prefix. Several servers may share it.

    Args:
        bucket: Where, with credentials, retries and time-outs.
        reap: Ends multipart uploads that dead writers left, and says how many; None where the service does
            that by itself.
        complete: Makes an object of what an upload that its writer left has brought, and says whether there
            was one; None where the service cannot.
        part_bytes: Of a multipart upload; three parts of each writer are in memory at most.
    """

    def __init__(
        self,
        bucket: Bucket,
        *,
        reap: Callable[[], int] | None = None,
        complete: Callable[[str], bool] | None = None,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self._bucket = bucket
        self._reap = reap
        self._complete = complete
        self._part_bytes = part_bytes

    def create(self, name: str, expected_bytes: int | None = None) -> "StoredObjectWriter":
        """Start an object that nobody sees before its commit."""
        return StoredObjectWriter(self._bucket, _checked(name), self._part_size(expected_bytes))

    def open(self, name: str) -> "StoredObjectReader":
        """Open a visible object. Raises BlobNotFoundError."""
        return StoredObjectReader(self._bucket, _checked(name))

    def delete(self, name: str) -> bool:
        """Remove an object; False when there was none."""
        with _translated():
            if _size(self._bucket, _checked(name)) is None:
                return False
            obstore.delete(self._bucket, name)
        return True

    def names(self) -> Iterator[str]:
        """List the visible objects, a page of the service's listing at a time."""
        with _translated(reading=True):
            for page in obstore.list(self._bucket):
                yield from (entry["path"] for entry in page if _NAME.fullmatch(entry["path"]))

    def salvage(self, name: str) -> "StoredObjectReader | None":
        """Open what a writer left under its name: an object that no key record refers to.

        The service keeps the parts of an upload whose writer died, and gives them back only as an object. A
        writer that is alive after all finds its upload gone, and fails.
        """
        with _translated(reading=True):
            there = _size(self._bucket, _checked(name)) is not None
            if not there and (self._complete is None or not self._complete(name)):
                return None
        try:
            return self.open(name)
        except BlobNotFoundError:
            return None

    def discard(self, name: str) -> None:
        """Remove what `salvage` found."""
        self.delete(name)

    def recover(self, keep: Collection[str] = frozenset()) -> int:  # noqa: ARG002 (kept for longer anyway)
        """End multipart uploads that were begun long ago and never completed; return how many."""
        if self._reap is None:
            return 0
        with _translated():
            return self._reap()

    def probe(self) -> None:
        """Prove that objects can be written, and that the service tells what is there."""
        with _translated():
            obstore.put(self._bucket, _PROBE, str(time.time()).encode())
            _size(self._bucket, _NEVER_WRITTEN)

    def _part_size(self, expected_bytes: int | None) -> int:
        needed = -(-(expected_bytes or 0) // _MAX_PARTS)
        return max(self._part_bytes, -(-needed // _MIB) * _MIB)


class StoredObjectWriter:
    """An object on its way in. One thread at a time."""

    def __init__(self, bucket: Bucket, name: str, part_bytes: int) -> None:
        self._bucket = bucket
        self._name = name
        self._part_bytes = part_bytes
        self._held: list[bytes] = []
        self._size_bytes = 0
        self._upload: MultipartUpload | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes; they are copied before this returns."""
        piece = bytes(data)
        self._size_bytes += len(piece)
        with _translated():
            if self._upload is not None:
                self._upload.send(piece)
                return
            self._held.append(piece)
            if self._size_bytes > self._part_bytes:
                self._begin()

    def commit(self) -> None:
        """Make the object durable and visible under its name. Raises ObjectExistsError."""
        with _translated():
            if self._upload is None:
                held, self._held = b"".join(self._held), []
                self._settle(lambda: obstore.put(self._bucket, self._name, held, mode="create"))
            else:
                if _size(self._bucket, self._name) is not None:
                    raise ObjectExistsError("an object of this name is there already")
                self._settle(self._upload.finish)
            stored = _size(self._bucket, self._name)
        if stored != self._size_bytes:
            raise StorageUnavailableError("the object that was written does not have its length")

    def abort(self) -> None:
        """End an upload that was not committed; the service drops its parts."""
        self._held = []
        if self._upload is not None:
            self._upload.abort()

    def leave(self) -> None:
        """Complete the upload as it is; until somebody goes on with it, it is an object without a record."""
        if self._upload is None:
            return
        with suppress(StorageError), _translated():
            self._upload.finish()

    def _begin(self) -> None:
        upload = self._upload = MultipartUpload(self._bucket, self._name, self._part_bytes)
        held, self._held = self._held, []
        for piece in held:
            upload.send(piece)

    def _settle(self, complete: Callable[[], object]) -> None:
        """Complete; when the answer was lost, see whether the object is there all the same.

        Nobody else writes under this name, so an object of this length is the one that was sent.
        """
        try:
            complete()
        except exceptions.GenericError:
            if _size(self._bucket, self._name) != self._size_bytes:
                raise


class StoredObjectReader:
    """One object. Threads may share it.

    Opening reads the object's start with its length in one request: a small object needs no other.
    """

    def __init__(self, bucket: Bucket, name: str) -> None:
        self._bucket = bucket
        self._name = name
        with _translated(reading=True):
            found = obstore.get(bucket, name, options={"range": (0, _HEAD_BYTES)})
            self._size_bytes = found.meta["size"]
            self._head = memoryview(found.buffer())

    @property
    def size_bytes(self) -> int:
        """Length of the object."""
        return self._size_bytes

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` from `offset`; return how much was there before the end."""
        end = min(offset + len(buffer), self._size_bytes)
        if offset >= end:
            return 0
        if end <= len(self._head):
            buffer[: end - offset] = self._head[offset:end]
            return end - offset
        with _translated(reading=True):
            found = memoryview(obstore.get_range(self._bucket, self._name, start=offset, end=end))
        if len(found) != end - offset:
            raise StorageUnavailableError("storage answered a range with another length")
        buffer[: end - offset] = found
        return end - offset

    def close(self) -> None:
        """Nothing to release: requests end by themselves."""


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BlobNotFoundError("an object name is 64 lower-case hex digits")
    return name


def _size(bucket: Bucket, name: str) -> int | None:
    try:
        return obstore.head(bucket, name)["size"]
    except FileNotFoundError:
        return None


@contextmanager
def _translated(*, reading: bool = False) -> Iterator[None]:
    """Turn the client's errors into this package's.

    Their messages quote addresses and what the service answered: they are left out.
    """
    try:
        yield
    except StorageError:
        raise
    except FileNotFoundError:
        raise BlobNotFoundError("the object is not in storage") from None
    except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
        raise ObjectExistsError("an object of this name is there already") from None
    except exceptions.PermissionDeniedError:
        if reading:
            raise StorageUnavailableError("the object store does not let us read") from None
        raise StorageFullError("the object store does not let us write") from None
    except Exception as error:  # noqa: BLE001 - the client has errors of many roots
        raise StorageUnavailableError(f"the object store does not answer ({type(error).__name__})") from None
