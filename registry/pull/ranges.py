"""Byte ranges for blobs (RFC 9110, section 14)."""

import re
from dataclasses import dataclass
from typing import Final

from storage.errors import BlobRangeError

MAX_RANGES: Final = 16
_UNIT = re.compile(r"bytes=", re.IGNORECASE)
_RANGE = re.compile(r"(\d{0,18})-(\d{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Part of a blob: `length` bytes from `start`."""

    start: int
    length: int

    def content_range(self, size_bytes: int) -> str:
        """Return the value of `Content-Range` (RFC 9110, section 14.4)."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{size_bytes}"


def parse_ranges(header: str | None, size_bytes: int) -> tuple[ByteRange, ...]:
    """Parse a `Range` header.

    Other units and malformed headers are ignored (RFC 9110, section 14.2). The response is then the whole
    blob, which all clients can use.

    Args:
        header: Value of the header, or None.
        size_bytes: Size of the whole blob.

    Returns:
        The ranges to send, in the order of the header, without those outside the blob; none for the whole
        blob.

    Raises:
        BlobRangeError: All ranges are outside the blob, or there are more than `MAX_RANGES`.
    """
    unit = _UNIT.match(header) if header else None
    if header is None or unit is None:
        return ()
    listed = [part.strip(" \t") for part in header[unit.end() :].split(",")]
    bounds = [_RANGE.fullmatch(part) for part in listed if part]  # a list may have empty elements
    ranges = []
    for match in bounds:
        if match is None or match.groups() == ("", ""):
            return ()
        first, last = match.groups()
        if first and last and int(last) < int(first):
            return ()
        if span := _within(first, last, size_bytes):
            ranges.append(span)
    if bounds and not ranges:
        raise BlobRangeError(f"the blob has {size_bytes} bytes")
    if len(bounds) > MAX_RANGES:
        raise BlobRangeError(f"a request may have {MAX_RANGES} ranges")
    return tuple(ranges)


def is_open_ended(header: str | None) -> bool:
    """Return whether a `Range` header requests everything from some byte to the end."""
    return header is not None and header.rstrip().endswith("-")


def _within(first: str, last: str, size_bytes: int) -> ByteRange | None:
    """Return the part of a range that is in the blob, or None. Without `first` it is a suffix."""
    if not first:
        length = min(int(last), size_bytes)
        return ByteRange(size_bytes - length, length) if length else None
    start = int(first)
    end = min(int(last), size_bytes - 1) if last else size_bytes - 1
    return ByteRange(start, end - start + 1) if start < size_bytes else None
