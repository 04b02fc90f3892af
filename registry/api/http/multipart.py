"""The body of a response with several ranges: `multipart/byteranges` (RFC 9110, section 14.6)."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from registry.pull.ranges import ByteRange


@dataclass(frozen=True)
class MultipartRanges:
    """Ranges of one blob, and the heads and boundaries around them.

    Attributes:
        media_type: Type of the blob.
    """

    ranges: Sequence[ByteRange]
    size_bytes: int
    media_type: str
    boundary: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def type_header(self) -> str:
        """Value of the `Content-Type` header."""
        return f"multipart/byteranges; boundary={self.boundary}"

    @property
    def length_bytes(self) -> int:
        """Length of the whole body."""
        return sum(len(self.head(part)) + part.length for part in self.ranges) + len(self.end)

    def head(self, part: ByteRange) -> bytes:
        """Return what precedes a part."""
        lines = (
            f"--{self.boundary}",
            f"Content-Type: {self.media_type}",
            f"Content-Range: {part.content_range(self.size_bytes)}",
        )
        return ("\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode()

    @property
    def end(self) -> bytes:
        """Return what follows the last part."""
        return f"\r\n--{self.boundary}--\r\n".encode()
