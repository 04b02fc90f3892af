"""Reading of unfinished containers (docs/blob-format.md, "unfinished containers")."""

from storage.envelope.buffers import RUN_BYTES
from storage.envelope.oeb1.header import HEADER_BYTES, Codec
from storage.envelope.oeb1.opener import Unlocked
from storage.envelope.oeb1.payload import PAYLOAD_HEADER_BYTES, TAG_BYTES
from storage.errors import BlobDamagedError
from storage.ports import ObjectReader


class Prefix:
    """Complete segments at the start of an unfinished container. For one thread at a time. Calls block.

    Each segment is authenticated. The missing trailer does no harm: the blob is hashed again as segments are
    read, and the rest of it is fetched.

    Args:
        source: Object with the container; the caller closes it.
        unlocked: Verified start of the container.

    Raises:
        BlobDamagedError: The container is compressed. Without an index, its frames cannot be found.
    """

    def __init__(self, source: ObjectReader, unlocked: Unlocked) -> None:
        if unlocked.header.codec is not Codec.NONE:
            raise BlobDamagedError("a compressed container cannot be read without its index")
        self._source = source
        self._cipher = unlocked.segments
        self._segment_bytes = unlocked.header.segment_bytes
        run = max(1, RUN_BYTES // self._segment_bytes)
        self._sealed = memoryview(bytearray(run * self._segment_bytes))
        self._plain = memoryview(bytearray(run * self._segment_bytes))
        self._index = 0

    def read(self) -> memoryview:
        """Return the plaintext of the next segments, valid until the next call; empty at the end.

        The end is the first segment that is incomplete or does not authenticate, for example because a power
        failure interrupted its write.
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
