"""Reads the start of a container that was never finished (docs/blob-format.md, "unfinished containers")."""

from typing import Final

from storage.envelope.header import HEADER_BYTES, Codec
from storage.envelope.opener import Unlocked
from storage.envelope.payload import PAYLOAD_HEADER_BYTES, TAG_BYTES
from storage.errors import BlobDamagedError
from storage.ports import ObjectReader

_RUN_BYTES: Final = 1 << 20


class Prefix:
    """The whole segments that a writer left, from the first one on. One thread at a time; every call blocks.

    Each is authenticated like any other. There is no trailer to say how many there should be and none is
    needed: the blob is hashed anew as they are read, and the rest of it is fetched.

    Args:
        source: Where the container lies; closed by whoever opened it.
        unlocked: Its start, checked.

    Raises:
        BlobDamagedError: The container is compressed: without its index the frames cannot be told apart.
    """

    def __init__(self, source: ObjectReader, unlocked: Unlocked) -> None:
        if unlocked.header.codec is not Codec.NONE:
            raise BlobDamagedError("a compressed container cannot be read without its end")
        self._source = source
        self._cipher = unlocked.segments
        self._segment_bytes = unlocked.header.segment_bytes
        run = max(1, _RUN_BYTES // self._segment_bytes)
        self._sealed = memoryview(bytearray(run * self._segment_bytes))
        self._plain = memoryview(bytearray(run * self._segment_bytes))
        self._index = 0

    def read(self) -> memoryview:
        """Return the plaintext of the next segments, valid until the next call; empty at the end.

        The end is the first segment that is not whole or does not authenticate: what a power cut left
        half-written is not believed.
        """
        start = max(PAYLOAD_HEADER_BYTES, self._index * self._segment_bytes)
        there = self._source.read_into(HEADER_BYTES + start, self._sealed)
        taken = written = 0
        while (size := (self._index + 1) * self._segment_bytes - start - taken) <= there - taken:
            plain = self._plain[written : written + size - TAG_BYTES]
            try:
                self._cipher.open(self._index, self._sealed[taken : taken + size], plain, last=False)
            except BlobDamagedError:
                break
            taken, written, self._index = taken + size, written + len(plain), self._index + 1
        return self._plain[:written]
