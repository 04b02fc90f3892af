"""Header of a container: its first 64 bytes (docs/blob-format.md, "header")."""

import hmac
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from storage.envelope.key import DataKey
from storage.errors import BlobDamagedError

HEADER_BYTES = 64
FILE_ID_BYTES = 16
MIN_LOG2, MAX_LOG2 = 16, 22
DEFAULT_SEGMENT_LOG2 = 18
DEFAULT_FRAME_LOG2 = 20

_MAGIC = bytes.fromhex("894f45420d0a1a0a")
_VERSION = 1
_SUITE = 1
_START = struct.Struct(">8sBBBBB3s16s")
_ZERO = bytes(3)


class Codec(IntEnum):
    """Compression of the plaintext before it is sealed."""

    NONE = 0
    ZSTD = 1


@dataclass(frozen=True, slots=True)
class Header:
    """A valid header.

    Attributes:
        segment_log2: Ciphertext bytes of a full segment, as a power of two.
        frame_log2: Plaintext bytes of a full frame, as a power of two; 0 without a codec.
        file_id: 16 random bytes.
        commitment: 32 bytes that commit the container to its data key.
    """

    segment_log2: int
    codec: Codec
    frame_log2: int
    file_id: bytes
    commitment: bytes

    @classmethod
    def create(
        cls, key: DataKey, *, segment_log2: int, codec: Codec, frame_log2: int, file_id: bytes
    ) -> Self:
        """Create the header of a new container. Raises ValueError: a size is outside the format's bounds."""
        if not _in_bounds(segment_log2, codec, frame_log2):
            raise ValueError("segment or frame size is outside the format's bounds")
        start = _start(segment_log2, codec, frame_log2, file_id)
        return cls(segment_log2, codec, frame_log2, file_id, key.commitment(file_id, start))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse a header. Raises BlobDamagedError: a field is outside its bounds."""
        if len(data) != HEADER_BYTES:
            raise BlobDamagedError("the container is shorter than its header")
        magic, version, suite, segment_log2, codec, frame_log2, zero, file_id = _START.unpack_from(data)
        if (magic, version, suite, zero) != (_MAGIC, _VERSION, _SUITE, _ZERO):
            raise BlobDamagedError("not a container of this format's version and suite")
        if not _in_bounds(segment_log2, codec, frame_log2):
            raise BlobDamagedError("a header field is outside the format's bounds")
        return cls(segment_log2, Codec(codec), frame_log2, file_id, data[_START.size :])

    @property
    def start(self) -> bytes:
        """The first 32 bytes: all fields but the commitment."""
        return _start(self.segment_log2, self.codec, self.frame_log2, self.file_id)

    @property
    def segment_bytes(self) -> int:
        """Ciphertext bytes of a full segment."""
        return 1 << self.segment_log2

    @property
    def frame_bytes(self) -> int:
        """Plaintext bytes of a full frame."""
        return 1 << self.frame_log2

    def check(self, key: DataKey) -> None:
        """Raise BlobDamagedError unless the header commits to `key`. Runs in constant time."""
        if not hmac.compare_digest(self.commitment, key.commitment(self.file_id, self.start)):
            raise BlobDamagedError("the container is not committed to its key")

    def encode(self) -> bytes:
        """Return the 64 bytes of the header."""
        return self.start + self.commitment


def _start(segment_log2: int, codec: int, frame_log2: int, file_id: bytes) -> bytes:
    return _START.pack(_MAGIC, _VERSION, _SUITE, segment_log2, codec, frame_log2, _ZERO, file_id)


def _in_bounds(segment_log2: int, codec: int, frame_log2: int) -> bool:
    if not MIN_LOG2 <= segment_log2 <= MAX_LOG2:
        return False
    if codec == Codec.ZSTD:
        return MIN_LOG2 <= frame_log2 <= MAX_LOG2
    return codec == Codec.NONE and frame_log2 == 0
