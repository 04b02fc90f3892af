"""zstd in independent frames with a seek table. No I/O.

The layout is zstd's "seekable format" (facebook/zstd, contrib/seekable_format): the table is a skippable
frame at the end, which all decoders ignore.
"""

import struct
from typing import Final

import zstandard

FRAME_BYTES: Final = 4 << 20
"""Bytes of a tar stream in one frame; also the largest window that a decoder needs."""

_SKIPPABLE_MAGIC = 0x184D2A5E
_SEEKABLE_MAGIC = 0x8F92EAB1
_HEAD = struct.Struct("<II")
_ENTRY = struct.Struct("<II")
_FOOTER = struct.Struct("<IBI")


def compress_frame(piece: bytes, level: int) -> bytes:
    """Compress a piece into one frame. The result is deterministic for one version of zstd.

    Args:
        piece: At most `FRAME_BYTES`.
        level: 1 to 22.
    """
    return zstandard.ZstdCompressor(level=level).compress(piece)


class SeekTable:
    """Table of the frames of one stream."""

    def __init__(self) -> None:
        self._entries = bytearray()

    @property
    def size_bytes(self) -> int:
        """Length of the table that `dump` returns."""
        return _HEAD.size + len(self._entries) + _FOOTER.size

    def add(self, packed_bytes: int, unpacked_bytes: int) -> None:
        """Add the next frame."""
        self._entries += _ENTRY.pack(packed_bytes, unpacked_bytes)

    def dump(self) -> bytes:
        """Return the table as the last frame of the stream."""
        count = len(self._entries) // _ENTRY.size
        head = _HEAD.pack(_SKIPPABLE_MAGIC, self.size_bytes - _HEAD.size)
        return head + bytes(self._entries) + _FOOTER.pack(count, 0, _SEEKABLE_MAGIC)
