"""Incremental decompression and hashing of a layer's tar stream. Blocking: for worker threads only.

The compression format is detected from the first bytes, as in Docker and containerd, because the media type
may be wrong. Output is produced only on request, so that no input, even a malicious one, needs more memory
than `CHUNK_BYTES`, one input chunk and the zstd window.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import IO, Final, Protocol, cast

import zstandard
from zlib_ng import zlib_ng

from registry.errors import PullFailedError
from storage.digest import Digest
from storage.read.reader import CHUNK_BYTES, BlobReader

MAX_MEMBERS: Final = 1 << 20
RATIO_FLOOR_BYTES: Final = 1 << 30
MAX_RATIO: Final = 200
MAX_WINDOW_BYTES: Final = 128 << 20

_GZIP = b"\x1f\x8b\x08"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"  # after one byte 0x50 to 0x5f
_OTHERS = (b"BZh", b"\xfd7zXZ\x00")
_MAGIC_BYTES = 6
_GZIP_WITH_HEADER = 31
_GZIP_ERROR: type[Exception] = zlib_ng.error  # type: ignore[assignment]  # the stub declares an instance
_NO_GZIP = "is not valid gzip data"
_LEAST_FEED = 4 << 10
_MOST_FEED = 256 << 10


class Packing(StrEnum):
    """Compression format of a layer. `OTHER` formats are decompressed by external programs, if at all."""

    TAR = "tar"
    GZIP = "gzip"
    ZSTD = "zstd"
    OTHER = "other"

    @classmethod
    def of(cls, head: bytes) -> "Packing":
        """Detect the format from a layer's first bytes."""
        if head.startswith(_GZIP):
            return cls.GZIP
        if head.startswith(_ZSTD) or (head[1:4] == _ZSTD_SKIPPABLE and head[0] & 0xF0 == 0x50):  # noqa: PLR2004
            return cls.ZSTD
        return cls.OTHER if head.startswith(_OTHERS) else cls.TAR


class ByteSource(Protocol):
    """A source of compressed bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """Return about `size` more bytes, at least one; empty at the end."""


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
    """

    def __init__(
        self, source: ByteSource, layer: Digest, size_bytes: int, diff_id: Digest, allowance: Allowance
    ) -> None:
        self._source = _Counted(source)
        self._layer = layer
        self._size_bytes = size_bytes
        self._diff_id = diff_id
        self._allowance = allowance
        self._hasher = diff_id.hasher()
        self._rest = memoryview(b"")
        self._held = 0
        head = self._source.read()
        while len(head) < _MAGIC_BYTES and (more := self._source.read()):
            head += more
        self.packing = Packing.of(head)
        self._pieces = self._unpack(head)
        self.unpacked_bytes = 0

    @property
    def packed_bytes(self) -> int:
        """Approximate number of compressed bytes that the bytes read so far stand for; exact at the end."""
        taken = self._source.count - self._held
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

    def _unpack(self, head: bytes) -> Iterator[bytes]:
        """Yield the tar stream in pieces of at most `CHUNK_BYTES`, hashed and counted."""
        unpack = {Packing.GZIP: self._gzip, Packing.ZSTD: self._zstd}.get(self.packing, self._plain)
        for piece in unpack(head):
            self._count(len(piece))
            self._hasher.update(piece)
            yield piece

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

    def _plain(self, head: bytes) -> Iterator[bytes]:
        piece = head
        while piece:
            yield piece
            piece = self._source.read()

    def _gzip(self, head: bytes) -> Iterator[bytes]:
        """Decompress every member (RFC 1952, section 2.2).

        Trailing zeros are padding, as for gzip(1); any other trailing data is an error.
        """
        left, members = memoryview(head), 0
        while left or (left := memoryview(self._source.read())):
            if members and left[0] == 0:
                self._held = 0
                self._require_padding(left)
                return
            members += 1
            if members > MAX_MEMBERS:
                raise PullFailedError(
                    f"the layer {self._layer} has more than {MAX_MEMBERS:,} gzip members: compress it as one"
                )
            member = _Member()
            try:
                while not member.ended:
                    if not left and member.starved:
                        left = memoryview(self._source.read())
                        if not left:
                            raise self._broken("is truncated")
                    piece, left = member.feed(left)
                    self._held = len(left)
                    if piece:
                        yield piece
            except _GZIP_ERROR:
                raise self._broken(_NO_GZIP) from None

    def _require_padding(self, piece: bytes | memoryview) -> None:
        while piece:
            if bytes(piece).strip(b"\0"):
                raise self._broken(_NO_GZIP)
            piece = self._source.read()

    def _zstd(self, head: bytes) -> Iterator[bytes]:
        """Decompress every frame (RFC 8878, section 3.1). Windows over the limit are an error."""
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
        source = cast("IO[bytes]", _Prefixed(head, self._source))  # only read() is called
        try:
            with decompressor.stream_reader(source, read_size=CHUNK_BYTES, read_across_frames=True) as reader:
                while piece := reader.read(CHUNK_BYTES):
                    yield piece
        except zstandard.ZstdError as error:
            if "memory" in str(error):
                limit = f"a window over {MAX_WINDOW_BYTES >> 20} MiB"
                raise PullFailedError(
                    f"the layer {self._layer} needs {limit} to unpack: compress it without --long"
                ) from None
            raise self._broken("is not valid zstd data") from None

    def _broken(self, how: str) -> PullFailedError:
        return PullFailedError(f"the layer {self._layer} {how}: push the image again")


class _Member:
    """Decompressor of one gzip member. Input starts small, because zlib copies the unused part."""

    def __init__(self) -> None:
        self._inflate = zlib_ng.decompressobj(wbits=_GZIP_WITH_HEADER)
        self._feed_bytes = _LEAST_FEED
        self.starved = True

    @property
    def ended(self) -> bool:
        return bool(self._inflate.eof)

    def feed(self, data: memoryview) -> tuple[bytes, memoryview]:
        """Decompress some input. Returns at most `CHUNK_BYTES` of output, and the unused input."""
        part = data[: self._feed_bytes]
        piece = self._inflate.decompress(part, CHUNK_BYTES)
        # At the end of a member, zlib puts the rest into both attributes if the previous call left a tail.
        unused = len(self._inflate.unused_data if self.ended else self._inflate.unconsumed_tail)
        self._feed_bytes = min(2 * self._feed_bytes, _MOST_FEED)
        self.starved = len(piece) < CHUNK_BYTES
        return piece, data[len(part) - unused :]


class _Counted:
    """Counts the bytes that are read from a source."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self.count = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        self.count += len(data)
        return data


class _Prefixed:
    """Returns bytes that were already read, then continues with the source."""

    def __init__(self, head: bytes, source: ByteSource) -> None:
        self._head = head
        self._source = source

    def read(self, size: int = -1, /) -> bytes:
        if self._head:
            head, self._head = self._head, b""
            return head
        return self._source.read(size)
