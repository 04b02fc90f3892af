"""zstd in frames that stand for themselves, and the table that says where they are (pure).

The layout is that of zstd's own "seekable format" (facebook/zstd, contrib/seekable_format): the table is a
skippable frame at the end, which every decoder passes over.
"""

import struct
from typing import Final

import zstandard

FRAME_BYTES: Final = 4 << 20
"""How much of a tar stream goes into one frame; also the largest window that a decoder needs."""

_SKIPPABLE_MAGIC = 0x184D2A5E
_SEEKABLE_MAGIC = 0x8F92EAB1
_HEAD = struct.Struct("<II")
_ENTRY = struct.Struct("<II")
_FOOTER = struct.Struct("<IBI")


def compress_frame(piece: bytes, level: int) -> bytes:
    """Compress a piece into a frame of its own. The same bytes come out at every run of one zstd version.

    Args:
        piece: At most `FRAME_BYTES`.
        level: 1 to 22.
    """
    return zstandard.ZstdCompressor(level=level).compress(piece)


class SeekTable:
    """Where the frames of one stream are."""

    def __init__(self) -> None:
        self._entries = bytearray()

    @property
    def size_bytes(self) -> int:
        """How long the table is that `dump` writes."""
        return _HEAD.size + len(self._entries) + _FOOTER.size

    def add(self, packed_bytes: int, unpacked_bytes: int) -> None:
        """Enter the next frame."""
        self._entries += _ENTRY.pack(packed_bytes, unpacked_bytes)

    def dump(self) -> bytes:
        """Write the table, as the stream's last frame."""
        count = len(self._entries) // _ENTRY.size
        head = _HEAD.pack(_SKIPPABLE_MAGIC, self.size_bytes - _HEAD.size)
        return head + bytes(self._entries) + _FOOTER.pack(count, 0, _SEEKABLE_MAGIC)
