"""Frames: plaintext compressed piece by piece, so that ranges stay cheap (docs/blob-format.md, "codec 1")."""

import sys
from array import array
from dataclasses import dataclass
from itertools import accumulate
from typing import Self

import zstandard

from storage.envelope.header import Codec
from storage.errors import BlobDamagedError

SAMPLE_BYTES = 4 << 20
_WORTH_IT = 0.9
_SAMPLE_LEVEL = 1
_LEVEL = 3
_RAW = 1 << 31
_LENGTH_BYTES = 4


def choose_codec(sample: bytes | bytearray | memoryview) -> Codec:
    """Tell whether a blob that starts with `sample` (up to `SAMPLE_BYTES`) is worth compressing.

    Gzip layers are not; what they would gain is less than decompression costs every reader.
    """
    if len(sample) == 0:
        return Codec.NONE
    shrunk = len(zstandard.ZstdCompressor(level=_SAMPLE_LEVEL).compress(sample))
    return Codec.ZSTD if shrunk < _WORTH_IT * len(sample) else Codec.NONE


class FrameCompressor:
    """Compresses frames, each by itself. One thread at a time."""

    __slots__ = ("_lengths", "_zstd")

    def __init__(self) -> None:
        self._zstd = zstandard.ZstdCompressor(level=_LEVEL)
        self._lengths: list[int] = []

    @property
    def frames(self) -> int:
        """How many frames there have been."""
        return len(self._lengths)

    def compress(self, frame: memoryview) -> bytes | memoryview:
        """Return the frame compressed, or as it is when that is not shorter."""
        packed = self._zstd.compress(frame)
        if len(packed) < len(frame):
            self._lengths.append(len(packed))
            return packed
        self._lengths.append(len(frame) | _RAW)
        return frame

    def index(self) -> bytes:
        """Return the index of all frames, to be sealed."""
        return b"".join(length.to_bytes(_LENGTH_BYTES, "big") for length in self._lengths)


def decompress(packed: memoryview, size: int) -> bytes:
    """Decompress one frame that must give exactly `size` bytes.

    The size that the frame declares is checked before anything is allocated for it: python-zstandard
    ignores `max_output_size` when a frame declares one.

    Raises:
        BlobDamagedError: The frame declares or gives another size, or is not zstd.
    """
    try:
        if zstandard.frame_content_size(packed) != size:
            raise BlobDamagedError("a frame declares another size than its place in the blob")
        plain = zstandard.ZstdDecompressor().decompress(packed, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError:
        raise BlobDamagedError("a frame does not decompress") from None
    if len(plain) != size:
        raise BlobDamagedError("a frame gives another size than it declares")
    return plain


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: where its plaintext and its bytes in the payload lie."""

    plaintext_start: int
    plaintext_bytes: int
    payload_start: int
    payload_bytes: int
    raw: bool


class FrameIndex:
    """Where the frames of a blob lie. Immutable."""

    __slots__ = ("_ends", "_frame_bytes", "_lengths", "_plaintext_bytes")

    def __init__(self, lengths: "array[int]", frame_bytes: int, plaintext_bytes: int) -> None:
        self._lengths = lengths
        self._ends = array("Q", accumulate(length & ~_RAW for length in lengths))
        self._frame_bytes = frame_bytes
        self._plaintext_bytes = plaintext_bytes

    @classmethod
    def parse(cls, data: bytes, *, frame_bytes: int, plaintext_bytes: int, payload_bytes: int) -> Self:
        """Read an opened index.

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
        """How many frames there are."""
        return len(self._lengths)

    @property
    def payload_bytes(self) -> int:
        """What all frames take in the payload."""
        return self._ends[-1] if self._ends else 0

    def frame(self, number: int) -> Frame:
        """Return the frame at a position.

        Raises:
            BlobDamagedError: It has neither the length of its plaintext, being raw, nor less.
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
            raise BlobDamagedError("a frame has a length that no writer gives it")
        return frame

    def frame_at(self, offset: int) -> Frame:
        """Return the frame that holds the plaintext byte at `offset`."""
        return self.frame(offset // self._frame_bytes)
