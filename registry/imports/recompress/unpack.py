"""Verification of a layer's tar stream while it is decompressed. Blocking: for worker threads only.

The compression format is detected from the first bytes, as in Docker and containerd, because the media type
may be wrong.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Final

from registry.errors import PullFailedError
from registry.imports.recompress.decode import (
    MAX_MEMBERS,
    MAX_WINDOW_BYTES,
    ByteSource,
    DecodeError,
    Fault,
    Packing,
    decode,
)
from storage.digest import Digest
from storage.read.reader import CHUNK_BYTES, BlobReader

RATIO_FLOOR_BYTES: Final = 1 << 30
MAX_RATIO: Final = 200

_MAGIC_BYTES = 6

Decode = Callable[[Packing, bytes, ByteSource], Iterator[bytes]]
"""`decode`, here or in a sandbox."""


class BlobSource:
    """Reads a stored blob sequentially."""

    def __init__(self, reader: BlobReader) -> None:
        self._reader = reader
        self._offset = 0

    def read(self, _size: int = -1, /) -> bytes:
        """Return the next bytes, up to a boundary that suits the storage."""
        if self._offset == self._reader.size_bytes:
            return b""
        start, self._offset = self._offset, self._reader.piece_end(self._offset, CHUNK_BYTES)
        return self._reader.read_at(start, self._offset - start)


@dataclass(slots=True)
class Allowance:
    """The number of bytes that one import may still decompress."""

    bytes_left: int


class Unpacker:
    """Decompresses one layer.

    Args:
        source: The layer's compressed bytes.
        layer: The layer's digest, for errors.
        size_bytes: The layer's compressed size.
        diff_id: Expected digest of the tar stream; determines the hash algorithm.
        allowance: Shared by the layers of an import.
        decode: Decompresses the layer.
    """

    def __init__(
        self,
        source: ByteSource,
        layer: Digest,
        size_bytes: int,
        diff_id: Digest,
        allowance: Allowance,
        *,
        decode: Decode = decode,
    ) -> None:
        self._source = _Counted(source)
        self._layer = layer
        self._size_bytes = size_bytes
        self._diff_id = diff_id
        self._allowance = allowance
        self._hasher = diff_id.hasher()
        self._rest = memoryview(b"")
        head = self._source.read()
        while len(head) < _MAGIC_BYTES and (more := self._source.read()):
            head += more
        self.packing = Packing.of(head)
        self._decoded = decode(self.packing, head, self._source)
        self._pieces = self._counted()
        self.unpacked_bytes = 0

    @property
    def packed_bytes(self) -> int:
        """Approximate number of compressed bytes that the bytes read so far stand for; exact at the end."""
        taken = self._source.count
        given = self.unpacked_bytes - len(self._rest)
        return taken * given // self.unpacked_bytes if self.unpacked_bytes else taken

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes of the tar stream, fewer only at its end.

        Raises:
            PullFailedError: The layer is corrupt, or its decompressed size is over the limit.
            StorageError: The stored layer cannot be read.
        """
        parts: list[memoryview] = []
        missing = size
        while missing:
            if not self._rest and not (piece := next(self._pieces, b"")):
                break
            if not self._rest:
                self._rest = memoryview(piece)
            parts.append(self._rest[:missing])
            self._rest = self._rest[missing:]
            missing -= len(parts[-1])
        return parts[0].tobytes() if len(parts) == 1 else b"".join(parts)

    def check(self) -> None:
        """Compare the digest of the complete tar stream with the diff_id in the image's config.

        Raises:
            PullFailedError: They differ, so that no runtime could run the image.
        """
        if self._hasher.hexdigest() != self._diff_id.hex:
            raise PullFailedError(
                f"the layer {self._layer} does not unpack to what the image's config says "
                f"({self._diff_id}): push the image again"
            )

    def close(self) -> None:
        """End the decompression, also before its end."""
        self._pieces.close()
        if isinstance(self._decoded, Generator):
            self._decoded.close()

    def _counted(self) -> Generator[bytes]:
        """Yield the tar stream in pieces of at most `CHUNK_BYTES`, hashed and counted."""
        try:
            for piece in self._decoded:
                self._count(len(piece))
                self._hasher.update(piece)
                yield piece
        except DecodeError as error:
            raise self._failure(error.fault) from None

    def _failure(self, fault: Fault) -> PullFailedError:
        match fault:
            case Fault.TRUNCATED:
                return self._broken("is truncated")
            case Fault.INVALID_GZIP:
                return self._broken("is not valid gzip data")
            case Fault.INVALID_ZSTD:
                return self._broken("is not valid zstd data")
            case Fault.TOO_MANY_MEMBERS:
                return PullFailedError(
                    f"the layer {self._layer} has more than {MAX_MEMBERS:,} gzip members: compress it as one"
                )
            case Fault.TOO_LARGE_WINDOW:
                limit = f"a window over {MAX_WINDOW_BYTES >> 20} MiB"
                return PullFailedError(
                    f"the layer {self._layer} needs {limit} to unpack: compress it without --long"
                )

    def _broken(self, how: str) -> PullFailedError:
        return PullFailedError(f"the layer {self._layer} {how}: push the image again")

    def _count(self, length: int) -> None:
        self.unpacked_bytes += length
        self._allowance.bytes_left -= length
        if self._allowance.bytes_left < 0:
            raise PullFailedError(
                "the image unpacks to more than is allowed: make it smaller, or ask the operator for a "
                "higher limit"
            )
        if self.unpacked_bytes > max(RATIO_FLOOR_BYTES, MAX_RATIO * self._size_bytes):
            raise PullFailedError(
                f"the layer {self._layer} unpacks to more than {MAX_RATIO} times its size, like a "
                "decompression bomb: do not ship files of zeros, but create them at run time"
            )


class _Counted:
    """Counts the bytes that are read from a source."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self.count = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        self.count += len(data)
        return data
