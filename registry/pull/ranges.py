"""Byte ranges of one representation (RFC 9110, section 14), as far as blobs need them."""

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
    """Read a `Range` header.

    Several ranges, another unit and a malformed header are ignored, as RFC 9110 section 14.2 allows:
    the answer is then the whole blob, which every client can use.

    Args:
        header: The header's value; None when there was none.
        size_bytes: Of the whole blob.

    Returns:
        The part to send, or None for the whole.

    Raises:
        BlobRangeError: A well-formed range of which the blob has nothing.
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
