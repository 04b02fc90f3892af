"""A layer's tar stream, decompressed piece by piece and hashed. Blocks: for worker threads.

How a layer is compressed is read off its first bytes, as Docker and containerd do; its media type may lie.
Nothing is ever decompressed further than asked for, so that no input, however made, takes more memory
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
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"  # behind one byte 0x50 to 0x5f
_OTHERS = (b"BZh", b"\xfd7zXZ\x00")
_MAGIC_BYTES = 6
_GZIP_WITH_HEADER = 31
_GZIP_ERROR: type[Exception] = zlib_ng.error  # type: ignore[assignment]  # its stub has an instance
_NO_GZIP = "is no gzip from its start to its end"
_LEAST_FEED = 4 << 10
_MOST_FEED = 256 << 10


class Packing(StrEnum):
    """How a layer is compressed; `OTHER` is what container runtimes leave to external programs, if at all."""

    TAR = "tar"
    GZIP = "gzip"
    ZSTD = "zstd"
    OTHER = "other"

    @classmethod
    def of(cls, head: bytes) -> "Packing":
        """Tell by a layer's first bytes."""
        if head.startswith(_GZIP):
            return cls.GZIP
        if head.startswith(_ZSTD) or (head[1:4] == _ZSTD_SKIPPABLE and head[0] & 0xF0 == 0x50):  # noqa: PLR2004
            return cls.ZSTD
        return cls.OTHER if head.startswith(_OTHERS) else cls.TAR


class ByteSource(Protocol):
    """Where compressed bytes come from."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes: about `size`, at least one; none at the end."""


class BlobSource:
    """A stored blob, read from its start."""

    def __init__(self, reader: BlobReader) -> None:
        self._reader = reader
        self._offset = 0

    def read(self, _size: int = -1, /) -> bytes:
        """Return the next bytes, cut where the storage reads best."""
        if self._offset == self._reader.size_bytes:
            return b""
        start, self._offset = self._offset, self._reader.piece_end(self._offset, CHUNK_BYTES)
        return self._reader.read_at(start, self._offset - start)


@dataclass(slots=True)
class Allowance:
    """How much one import may still unpack to."""

    bytes_left: int


class Unpacker:
    """Decompresses one layer.

    Args:
        source: The layer's bytes.
        layer: The layer's digest, for errors.
        size_bytes: How many bytes it has compressed.
        diff_id: What the tar stream should be; chooses the hash.
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
        """About how much of the compressed layer went into what was read; exact at its end."""
        taken = self._source.count - self._held
        given = self.unpacked_bytes - len(self._rest)
        return taken * given // self.unpacked_bytes if self.unpacked_bytes else taken

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes of the tar stream, fewer only at its end.

        Raises:
            PullFailedError: The layer is not what it says, or unpacks to more than is allowed.
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
        """Compare the tar stream, read to its end, with what the image's config says of it.

        Raises:
            PullFailedError: It is something else, so that no runtime would run the image.
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
            raise PullFailedError("the image unpacks to more than is allowed: make it smaller")
        if self.unpacked_bytes > max(RATIO_FLOOR_BYTES, MAX_RATIO * self._size_bytes):
            raise PullFailedError(
                f"the layer {self._layer} unpacks to more than {MAX_RATIO} times its size: "
                "it is taken for a decompression bomb"
            )

    def _plain(self, head: bytes) -> Iterator[bytes]:
        piece = head
        while piece:
            yield piece
            piece = self._source.read()

    def _gzip(self, head: bytes) -> Iterator[bytes]:
        """Decompress every member (RFC 1952, section 2.2).

        Zeros behind the last one are padding, as for gzip(1); anything else is refused.
        """
        left, members = memoryview(head), 0
        while left or (left := memoryview(self._source.read())):
            if members and left[0] == 0:
                self._held = 0
                self._require_padding(left)
                return
            members += 1
            if members > MAX_MEMBERS:
                raise PullFailedError(f"the layer {self._layer} has more than {MAX_MEMBERS:,} gzip members")
            member = _Member()
            try:
                while not member.ended:
                    if not left and member.starved:
                        left = memoryview(self._source.read())
                        if not left:
                            raise self._broken("ends in the middle")
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
        """Decompress every frame (RFC 8878, section 3.1); windows beyond the limit are refused."""
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
        source = cast("IO[bytes]", _Prefixed(head, self._source))  # nothing but read() is asked of it
        try:
            with decompressor.stream_reader(source, read_size=CHUNK_BYTES, read_across_frames=True) as reader:
                while piece := reader.read(CHUNK_BYTES):
                    yield piece
        except zstandard.ZstdError as error:
            if "memory" in str(error):
                limit = f"a window over {MAX_WINDOW_BYTES >> 20} MiB"
                raise PullFailedError(f"the layer {self._layer} needs {limit} to unpack") from None
            raise self._broken("is no zstd from its start to its end") from None

    def _broken(self, how: str) -> PullFailedError:
        return PullFailedError(f"the layer {self._layer} {how}: push the image again")


class _Member:
    """One gzip member; it is fed little at first, because what it leaves over is copied."""

    def __init__(self) -> None:
        self._inflate = zlib_ng.decompressobj(wbits=_GZIP_WITH_HEADER)
        self._feed_bytes = _LEAST_FEED
        self.starved = True

    @property
    def ended(self) -> bool:
        return bool(self._inflate.eof)

    def feed(self, data: memoryview) -> tuple[bytes, memoryview]:
        """Return what comes out, at most `CHUNK_BYTES`, and what was not taken in."""
        part = data[: self._feed_bytes]
        piece = self._inflate.decompress(part, CHUNK_BYTES)
        # At a member's end, zlib leaves what follows in both, if the call before left a tail.
        unused = len(self._inflate.unused_data if self.ended else self._inflate.unconsumed_tail)
        self._feed_bytes = min(2 * self._feed_bytes, _MOST_FEED)
        self.starved = len(piece) < CHUNK_BYTES
        return piece, data[len(part) - unused :]


class _Counted:
    """Counts what is read."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self.count = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        self.count += len(data)
        return data


class _Prefixed:
    """Gives back bytes that were read ahead."""

    def __init__(self, head: bytes, source: ByteSource) -> None:
        self._head = head
        self._source = source

    def read(self, size: int = -1, /) -> bytes:
        if self._head:
            head, self._head = self._head, b""
            return head
        return self._source.read(size)
