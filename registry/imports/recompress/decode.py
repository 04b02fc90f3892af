"""Incremental decompression of gzip and zstd. Imports no other module of the registry: it runs in a sandbox.

Output is produced only on request, so that no input, even a malicious one, needs more memory than
`CHUNK_BYTES`, one input chunk and the zstd window.
"""

from collections.abc import Iterator
from enum import IntEnum, StrEnum
from typing import IO, Final, Protocol, cast

import zstandard
from zlib_ng import zlib_ng

CHUNK_BYTES: Final = 1 << 20
MAX_MEMBERS: Final = 1 << 20
MAX_WINDOW_BYTES: Final = 128 << 20

_GZIP = b"\x1f\x8b\x08"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"  # after one byte 0x50 to 0x5f
_OTHERS = (b"BZh", b"\xfd7zXZ\x00")
_GZIP_WITH_HEADER = 31
_GZIP_ERROR: type[Exception] = zlib_ng.error  # type: ignore[assignment]  # the stub declares an instance
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


class Fault(IntEnum):
    """Why a layer cannot be decompressed; also the exit status of the sandbox."""

    TRUNCATED = 10
    INVALID_GZIP = 11
    TOO_MANY_MEMBERS = 12
    INVALID_ZSTD = 13
    TOO_LARGE_WINDOW = 14


class DecodeError(Exception):
    """A layer cannot be decompressed."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.name)
        self.fault = fault


class ByteSource(Protocol):
    """A source of compressed bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """Return about `size` more bytes, at least one; empty at the end."""


def decode(packing: Packing, head: bytes, source: ByteSource) -> Iterator[bytes]:
    """Yield the decompressed bytes, in pieces of at most `CHUNK_BYTES`.

    Args:
        head: The first bytes, which were already read from the source.

    Raises:
        DecodeError: The bytes are not valid, or over a limit.
    """
    return {Packing.GZIP: _gzip, Packing.ZSTD: _zstd}.get(packing, _plain)(head, source)


def _plain(head: bytes, source: ByteSource) -> Iterator[bytes]:
    piece = head
    while piece:
        yield piece
        piece = source.read()


def _gzip(head: bytes, source: ByteSource) -> Iterator[bytes]:
    """Decompress every member (RFC 1952, section 2.2).

    Trailing zeros are padding, as for gzip(1); any other trailing data is an error.
    """
    left, members = memoryview(head), 0
    while left or (left := memoryview(source.read())):
        if members and left[0] == 0:
            _require_padding(left, source)
            return
        members += 1
        if members > MAX_MEMBERS:
            raise DecodeError(Fault.TOO_MANY_MEMBERS)
        member = _Member()
        try:
            while not member.ended:
                if not left and member.starved:
                    left = memoryview(source.read())
                    if not left:
                        raise DecodeError(Fault.TRUNCATED)
                piece, left = member.feed(left)
                if piece:
                    yield piece
        except _GZIP_ERROR:
            raise DecodeError(Fault.INVALID_GZIP) from None


def _require_padding(piece: bytes | memoryview, source: ByteSource) -> None:
    while piece:
        if bytes(piece).strip(b"\0"):
            raise DecodeError(Fault.INVALID_GZIP)
        piece = source.read()


def _zstd(head: bytes, source: ByteSource) -> Iterator[bytes]:
    """Decompress every frame (RFC 8878, section 3.1). Windows over the limit are an error."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    prefixed = cast("IO[bytes]", _Prefixed(head, source))  # only read() is called
    try:
        with decompressor.stream_reader(prefixed, read_size=CHUNK_BYTES, read_across_frames=True) as reader:
            while piece := reader.read(CHUNK_BYTES):
                yield piece
    except zstandard.ZstdError as error:
        raise DecodeError(Fault.TOO_LARGE_WINDOW if "memory" in str(error) else Fault.INVALID_ZSTD) from None


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
