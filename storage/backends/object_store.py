"""Backend that stores objects in a bucket: S3, Google Cloud Storage, Azure Blob Storage (docs/storage.md).

A small object is one conditional PUT. A larger one is a multipart upload under its final name, which stays
invisible until it is complete. Names are never reused (docs/blob-format.md, "object name").
"""

import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

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
_MAX_PARTS = 9_000  # the services allow 10,000
_MIB = 1 << 20
_HEAD_BYTES = 64 << 10
_NAME = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PROBE = "probe"
_NEVER_WRITTEN = "0" * 64


class ObjectStoreBackend:
    """Stores objects in one bucket, under one prefix. Several servers may share it.

    Args:
        bucket: Client of the bucket, with credentials, retries and time-outs.
        reap: Aborts abandoned multipart uploads and returns their number; None if the service does that
            by itself.
        complete: Completes an abandoned upload with the parts that it has, and returns whether there was
            one; None if the service does not support it.
        part_bytes: Size of a part of a multipart upload. Each writer holds at most three parts in memory.
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
        """Start an object, which stays invisible until its commit."""
        return StoredObjectWriter(self._bucket, _checked(name), self._part_size(expected_bytes))

    def open(self, name: str) -> "StoredObjectReader":
        """Open a visible object. Raises BlobNotFoundError."""
        return StoredObjectReader(self._bucket, _checked(name))

    def delete(self, name: str) -> bool:
        """Remove an object. Returns False if there is no such object."""
        with _translated():
            if _size(self._bucket, _checked(name)) is None:
                return False
            obstore.delete(self._bucket, name)
        return True

    def names(self) -> Iterator[str]:
        """List the visible objects, one page of the service's listing at a time."""
        with _translated(reading=True):
            for page in obstore.list(self._bucket):
                yield from (entry["path"] for entry in page if _NAME.fullmatch(entry["path"]))

    def path(self, name: str) -> str:
        """Return an object's path below the prefix."""
        return _checked(name)

    def signed_url(self, name: str, lifetime_s: float) -> str | None:
        """Return a presigned URL. It contains a signature: never log it."""
        with _translated(reading=True):
            return obstore.sign(self._bucket, "GET", _checked(name), timedelta(seconds=lifetime_s))

    def salvage(self, name: str) -> "StoredObjectReader | None":
        """Open an abandoned upload as an object that no key record refers to.

        The service returns the parts of an upload only as an object, so the upload is completed first. If its
        writer is still alive, its upload is gone and it fails.
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
        """Remove an object that `salvage` opened."""
        self.delete(name)

    def recover(self, keep: Collection[str] = frozenset()) -> int:  # noqa: ARG002 (stale uploads are older than any import)
        """Abort stale multipart uploads. Returns their number."""
        if self._reap is None:
            return 0
        with _translated():
            return self._reap()

    def probe(self) -> None:
        """Check that the bucket answers. Writes nothing."""
        with _translated():
            _size(self._bucket, _NEVER_WRITTEN)

    def probe_writing(self) -> None:
        """Write an object."""
        with _translated():
            obstore.put(self._bucket, _PROBE, str(time.time()).encode())

    def _part_size(self, expected_bytes: int | None) -> int:
        needed = -(-(expected_bytes or 0) // _MAX_PARTS)
        return max(self._part_bytes, -(-needed // _MIB) * _MIB)


class StoredObjectWriter:
    """Writer of one object. For one thread at a time."""

    def __init__(self, bucket: Bucket, name: str, part_bytes: int) -> None:
        self._bucket = bucket
        self._name = name
        self._part_bytes = part_bytes
        self._held: list[bytes] = []
        self._size_bytes = 0
        self._upload: MultipartUpload | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append a copy of the bytes."""
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
                self._commit_idempotently(lambda: obstore.put(self._bucket, self._name, held, mode="create"))
            else:
                if _size(self._bucket, self._name) is not None:
                    raise ObjectExistsError("an object with this name already exists")
                self._commit_idempotently(self._upload.finish)
            stored = _size(self._bucket, self._name)
        if stored != self._size_bytes:
            raise StorageUnavailableError("the stored object does not have the length that was written")

    def abort(self) -> None:
        """Abort an upload that was not committed. The service deletes its parts."""
        self._held = []
        if self._upload is not None:
            self._upload.abort()

    def leave(self) -> None:
        """Complete the upload as it is. Until it is resumed, it is an object without a key record."""
        if self._upload is None:
            return
        with suppress(StorageError), _translated():
            self._upload.finish()

    def _begin(self) -> None:
        upload = self._upload = MultipartUpload(self._bucket, self._name, self._part_bytes)
        held, self._held = self._held, []
        for piece in held:
            upload.send(piece)

    def _commit_idempotently(self, complete: Callable[[], object]) -> None:
        """Complete the upload. If the response is lost, check whether the object exists.

        Names are unique to one writer, so an object with this length is the one that was sent.
        """
        try:
            complete()
        except exceptions.GenericError:
            if _size(self._bucket, self._name) != self._size_bytes:
                raise


class StoredObjectReader:
    """Reader of one object. Threads may share it.

    Opening reads length and start of the object in one request; a small object needs no other.
    """

    def __init__(self, bucket: Bucket, name: str) -> None:
        self._bucket = bucket
        self._name = name
        with _translated(reading=True):
            try:
                found = obstore.get(bucket, name, options={"range": (0, _HEAD_BYTES)})
            except exceptions.GenericError:  # also the answer to a range of an empty object
                if _size(bucket, name) != 0:
                    raise
                self._size_bytes, self._head = 0, memoryview(b"")
            else:
                self._size_bytes = found.meta["size"]
                self._head = memoryview(found.buffer())

    @property
    def size_bytes(self) -> int:
        """Length of the object."""
        return self._size_bytes

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` from `offset`. Returns the number of bytes read, fewer at the end of the object."""
        end = min(offset + len(buffer), self._size_bytes)
        if offset >= end:
            return 0
        if end <= len(self._head):
            buffer[: end - offset] = self._head[offset:end]
            return end - offset
        with _translated(reading=True):
            found = memoryview(obstore.get_range(self._bucket, self._name, start=offset, end=end))
        if len(found) != end - offset:
            raise StorageUnavailableError("storage answered a range request with another length")
        buffer[: end - offset] = found
        return end - offset

    def fileno(self) -> int | None:
        """Return None: the object is not a local file."""
        return None

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


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
    """Translate the client's errors to errors of this package.

    Their messages are omitted, because they quote addresses and the service's responses.
    """
    try:
        yield
    except StorageError:
        raise
    except FileNotFoundError:
        raise BlobNotFoundError("the object is not in storage") from None
    except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
        raise ObjectExistsError("an object with this name already exists") from None
    except exceptions.PermissionDeniedError:
        if reading:
            raise StorageUnavailableError(
                "the object store denies read access: check its credentials and policy"
            ) from None
        raise StorageFullError(
            "the object store denies write access: check its credentials and policy"
        ) from None
    except Exception as error:  # noqa: BLE001 - the client has errors of many roots
        raise StorageUnavailableError(
            f"the object store does not answer ({type(error).__name__}): check its address and state"
        ) from None
