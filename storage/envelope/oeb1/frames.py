"""Frames: separately compressed pieces of plaintext, for cheap ranges (docs/blob-format.md, "codec 1")."""

import sys
from array import array
from dataclasses import dataclass
from itertools import accumulate
from typing import Self

import zstandard

from storage.envelope.oeb1.header import Codec
from storage.errors import BlobDamagedError

SAMPLE_BYTES = 4 << 20
_WORTH_IT = 0.9
_SAMPLE_LEVEL = 1
_LEVEL = 3
_RAW = 1 << 31
_LENGTH_BYTES = 4


def choose_codec(sample: bytes | bytearray | memoryview) -> Codec:
    """Choose the codec for a blob that starts with `sample` (up to `SAMPLE_BYTES`).

    Data that hardly shrinks, such as gzip layers, is not compressed: the saving is not worth the cost of
    decompression at every read.
    """
    if len(sample) == 0:
        return Codec.NONE
    shrunk = len(zstandard.ZstdCompressor(level=_SAMPLE_LEVEL).compress(sample))
    return Codec.ZSTD if shrunk < _WORTH_IT * len(sample) else Codec.NONE


class FrameCompressor:
    """Compresses frames independently of each other. For one thread at a time."""

    __slots__ = ("_lengths", "_zstd")

    def __init__(self) -> None:
        self._zstd = zstandard.ZstdCompressor(level=_LEVEL)
        self._lengths: list[int] = []

    @property
    def frames(self) -> int:
        """Number of frames so far."""
        return len(self._lengths)

    def compress(self, frame: memoryview) -> bytes | memoryview:
        """Return the compressed frame, or the frame itself if compression does not make it shorter."""
        packed = self._zstd.compress(frame)
        if len(packed) < len(frame):
            self._lengths.append(len(packed))
            return packed
        self._lengths.append(len(frame) | _RAW)
        return frame

    def index(self) -> bytes:
        """Return the index of all frames, for sealing."""
        return b"".join(length.to_bytes(_LENGTH_BYTES, "big") for length in self._lengths)


def decompress(packed: memoryview, size: int) -> bytes:
    """Decompress a frame to exactly `size` bytes.

    The declared size is checked before memory is allocated, because python-zstandard ignores
    `max_output_size` for frames that declare a size.

    Raises:
        BlobDamagedError: The frame declares or contains another size, or is not zstd.
    """
    try:
        if zstandard.frame_content_size(packed) != size:
            raise BlobDamagedError("a frame declares a size that does not match its position")
        plain = zstandard.ZstdDecompressor().decompress(packed, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError:
        raise BlobDamagedError("a frame does not decompress") from None
    if len(plain) != size:
        raise BlobDamagedError("a frame has another size than it declares")
    return plain


@dataclass(frozen=True, slots=True)
class Frame:
    """Position of one frame in the plaintext and in the payload."""

    plaintext_start: int
    plaintext_bytes: int
    payload_start: int
    payload_bytes: int
    raw: bool


class FrameIndex:
    """Positions of all frames of a blob. Immutable."""

    __slots__ = ("_ends", "_frame_bytes", "_lengths", "_plaintext_bytes")

    def __init__(self, lengths: "array[int]", frame_bytes: int, plaintext_bytes: int) -> None:
        self._lengths = lengths
        self._ends = array("Q", accumulate(length & ~_RAW for length in lengths))
        self._frame_bytes = frame_bytes
        self._plaintext_bytes = plaintext_bytes

    @classmethod
    def parse(cls, data: bytes, *, frame_bytes: int, plaintext_bytes: int, payload_bytes: int) -> Self:
        """Parse a decrypted index.

        Raises:
            BlobDamagedError: The frames do not add up to the blob or its payload.
        """
        lengths = array("I", data)
        if sys.byteorder == "little":
            lengths.byteswap()
        index = cls(lengths, frame_bytes, plaintext_bytes)
        if index.frames != -(-plaintext_bytes // frame_bytes) or index.payload_bytes != payload_bytes:
            raise BlobDamagedError("the frames do not add up to the blob")
        return index

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self._lengths)

    @property
    def payload_bytes(self) -> int:
        """Length of all frames in the payload."""
        return self._ends[-1] if self._ends else 0

    def frame(self, number: int) -> Frame:
        """Return a frame by its number.

        Raises:
            BlobDamagedError: The frame's length is invalid: it must equal its plaintext's if raw, or be less.
        """
        start = number * self._frame_bytes
        length = self._lengths[number] & ~_RAW
        frame = Frame(
            plaintext_start=start,
            plaintext_bytes=min(self._frame_bytes, self._plaintext_bytes - start),
            payload_start=self._ends[number] - length,
            payload_bytes=length,
            raw=bool(self._lengths[number] & _RAW),
        )
        if frame.raw != (length == frame.plaintext_bytes) or not 0 < length <= frame.plaintext_bytes:
            raise BlobDamagedError("a frame has an invalid length")
        return frame

    def frame_at(self, offset: int) -> Frame:
        """Return the frame that contains the plaintext byte at `offset`."""
        return self.frame(offset // self._frame_bytes)
