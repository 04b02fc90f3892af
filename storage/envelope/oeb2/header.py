"""Header of a sidecar: its first 64 bytes (docs/blob-format-oeb2.md, "header")."""

import hmac
import struct
from dataclasses import dataclass
from typing import Final, Self

from storage.envelope.key import DataKey
from storage.errors import BlobDamagedError

HEADER_BYTES: Final = 64
FILE_ID_BYTES: Final = 16
MIN_LOG2, MAX_LOG2 = 16, 22
DEFAULT_SEGMENT_LOG2: Final = 18

_MAGIC = bytes.fromhex("894f45420d0a1a0a")
_VERSION = 2
_SUITE = 2
_START = struct.Struct(">8sBBB5s16s")
_ZERO = bytes(5)
_COMMIT = b"oeb2-commit"


@dataclass(frozen=True, slots=True)
class Header:
    """A valid header.

    Attributes:
        segment_log2: Bytes of a full segment, as a power of two.
        file_id: 16 random bytes.
        commitment: 32 bytes that commit the container to its data key.
    """

    segment_log2: int
    file_id: bytes
    commitment: bytes

    @classmethod
    def create(cls, key: DataKey, *, segment_log2: int, file_id: bytes) -> Self:
        """Create the header of a container: the same for the same arguments.

        Raises:
            ValueError: The segment size is outside the format's bounds.
        """
        if not MIN_LOG2 <= segment_log2 <= MAX_LOG2:
            raise ValueError("the segment size is outside the format's bounds")
        start = _start(segment_log2, file_id)
        return cls(segment_log2, file_id, key.derive(file_id, _COMMIT + start))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse a header. Raises BlobDamagedError: a field is outside its bounds."""
        if len(data) != HEADER_BYTES:
            raise BlobDamagedError("the sidecar is shorter than its header")
        magic, version, suite, segment_log2, zero, file_id = _START.unpack_from(data)
        if (magic, version, suite, zero) != (_MAGIC, _VERSION, _SUITE, _ZERO):
            raise BlobDamagedError("not a sidecar of this format's version and suite")
        if not MIN_LOG2 <= segment_log2 <= MAX_LOG2:
            raise BlobDamagedError("a header field is outside the format's bounds")
        return cls(segment_log2, file_id, data[_START.size :])

    @property
    def segment_bytes(self) -> int:
        """Bytes of a full segment."""
        return 1 << self.segment_log2

    def segments(self, size_bytes: int) -> int:
        """Return the number of segments of a blob. An empty blob has none."""
        return -(-size_bytes // self.segment_bytes)

    def check(self, key: DataKey) -> None:
        """Raise BlobDamagedError unless the header commits to `key`. Runs in constant time."""
        expected = key.derive(self.file_id, _COMMIT + _start(self.segment_log2, self.file_id))
        if not hmac.compare_digest(self.commitment, expected):
            raise BlobDamagedError("the container is not committed to its key")

    def encode(self) -> bytes:
        """Return the 64 bytes of the header."""
        return _start(self.segment_log2, self.file_id) + self.commitment


def _start(segment_log2: int, file_id: bytes) -> bytes:
    return _START.pack(_MAGIC, _VERSION, _SUITE, segment_log2, _ZERO, file_id)
