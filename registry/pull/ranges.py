"""Byte ranges for blobs (RFC 9110, section 14)."""

import re
from dataclasses import dataclass

from storage.errors import BlobRangeError

_SINGLE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Part of a blob: `length` bytes from `start`."""

    start: int
    length: int

    def content_range(self, size_bytes: int) -> str:
        """Return the value of `Content-Range` (RFC 9110, section 14.4)."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{size_bytes}"


def parse_range(header: str | None, size_bytes: int) -> ByteRange | None:
    """Parse a `Range` header.

    Several ranges, other units and malformed headers are ignored (RFC 9110, section 14.2). The response is
    then the whole blob, which all clients can use.

    Args:
        header: Value of the header, or None.
        size_bytes: Size of the whole blob.

    Returns:
        The range to send, or None for the whole blob.

    Raises:
        BlobRangeError: The range is valid, but completely outside the blob.
    """
    match = _SINGLE.fullmatch(header) if header else None
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        length = min(int(last), size_bytes)
        if length == 0:
            raise BlobRangeError(f"the blob has {size_bytes} bytes")
        return ByteRange(size_bytes - length, length)
    start = int(first)
    end = min(int(last), size_bytes - 1) if last else size_bytes - 1
    if last and int(last) < start:
        return None
    if start >= size_bytes:
        raise BlobRangeError(f"the blob has {size_bytes} bytes")
    return ByteRange(start, end - start + 1)
