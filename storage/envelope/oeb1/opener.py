"""Verification of a container, and reading of ranges of its plaintext (docs/blob-format.md, "reading")."""

import hmac
from dataclasses import dataclass
from typing import Self

from storage.digest import Digest
from storage.envelope.buffers import RUN_BYTES, Scratch, read_exactly
from storage.envelope.key import DataKey
from storage.envelope.oeb1.frames import Frame, FrameIndex, decompress
from storage.envelope.oeb1.header import HEADER_BYTES, Codec, Header
from storage.envelope.oeb1.payload import PAYLOAD_HEADER_BYTES, TAG_BYTES, SegmentCipher, SegmentLayout
from storage.envelope.oeb1.trailer import TRAILER_BYTES, MetaCipher, Trailer
from storage.errors import BlobDamagedError, BlobRangeError
from storage.ports import ObjectReader

HEAD_BYTES = HEADER_BYTES + PAYLOAD_HEADER_BYTES


@dataclass(frozen=True, slots=True, repr=False)
class Unlocked:
    """Verified start of a container, and the ciphers derived from it and the data key.

    It can be cached and shared between threads. It does not contain the data key itself.
    """

    head: bytes
    header: Header
    segments: SegmentCipher
    meta: MetaCipher

    @classmethod
    def unlock(cls, key: DataKey, head: bytes) -> Self:
        """Verify the header's bounds, then its commitment to `key`.

        Args:
            key: Data key from the blob's key record.
            head: The container's first 104 bytes.

        Raises:
            BlobDamagedError: One of the checks fails.
        """
        header = Header.parse(head[:HEADER_BYTES])
        header.check(key)
        segments = SegmentCipher.derive(key, header, head[HEADER_BYTES:])
        return cls(head, header, segments, MetaCipher.derive(key, header))


def read_head(source: ObjectReader) -> bytes:
    """Read a container's first 104 bytes. Raises BlobDamagedError: there are fewer."""
    return read_exactly(source, 0, HEAD_BYTES)


class Container:
    """Verified container, open for reading. All methods block. Threads may share it.

    Opening follows docs/blob-format.md, "reading", steps 3 to 7; steps 1 and 2 are in `Unlocked.unlock`.

    Args:
        source: Object with the container; the caller closes it.
        unlocked: Verified start of the container, possibly cached.
        digest: Expected digest of the plaintext.
        scratch: Buffers for ciphertext.

    Raises:
        BlobDamagedError: One of the checks fails.
    """

    def __init__(self, source: ObjectReader, unlocked: Unlocked, digest: Digest, scratch: Scratch) -> None:
        if not hmac.compare_digest(read_head(source), unlocked.head):
            raise BlobDamagedError("the start of the container has changed")
        self._source = source
        self._header = unlocked.header
        self._cipher = unlocked.segments
        self._scratch = scratch
        self.trailer = self._open_trailer(unlocked.meta, digest)
        self._layout = SegmentLayout(self._header.segment_bytes, self.trailer.payload_plaintext_bytes)
        self._frames = self._open_index(unlocked.meta) if self._header.codec is Codec.ZSTD else None
        if self.trailer.payload_plaintext_bytes == 0:
            # Reads never touch the single segment of an empty payload.
            self._check_empty_payload()

    @property
    def size_bytes(self) -> int:
        """Length of the plaintext."""
        return self.trailer.plaintext_bytes

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` with plaintext from `offset`. Returns the number of bytes, fewer at the blob's end.

        Raises:
            BlobRangeError: `offset` is outside the blob.
            BlobDamagedError: A segment or frame is damaged. The content of `buffer` must not be used.
        """
        if not 0 <= offset <= self.size_bytes:
            raise BlobRangeError(f"offset {offset} is outside the blob of {self.size_bytes} bytes")
        buffer = buffer[: self.size_bytes - offset]
        if self._frames is None:
            self._read_payload(offset, buffer)
        else:
            self._read_frames(self._frames, offset, buffer)
        return len(buffer)

    def piece_end(self, offset: int, wanted_bytes: int) -> int:
        """Return the end of a piece from `offset` such that no segment or frame is decrypted twice.

        The piece has about `wanted_bytes`, but at least one segment or frame.
        """
        if self._frames is not None:
            size = self._header.frame_bytes
            end = (offset // size + max(1, wanted_bytes // size)) * size
            return min(end, self.size_bytes)
        count = max(1, wanted_bytes // self._header.segment_bytes)
        return self._layout.plaintext_end(self._layout.segment_at(offset) + count - 1)

    def _open_trailer(self, meta: MetaCipher, digest: Digest) -> Trailer:
        size = self._source.size_bytes
        trailer = meta.open_trailer(read_exactly(self._source, size - TRAILER_BYTES, TRAILER_BYTES))
        trailer.check(self._header, size)
        # The key record's AAD binds digests of other algorithms to the container ("key record").
        if digest.algorithm == "sha256" and not hmac.compare_digest(trailer.sha256.hex(), digest.hex):
            raise BlobDamagedError("the container contains another blob")
        return trailer

    def _open_index(self, meta: MetaCipher) -> FrameIndex:
        start = HEADER_BYTES + self.trailer.payload_ciphertext_bytes
        index = meta.open_index(read_exactly(self._source, start, self.trailer.index_bytes))
        return FrameIndex.parse(
            index,
            frame_bytes=self._header.frame_bytes,
            plaintext_bytes=self.trailer.plaintext_bytes,
            payload_bytes=self.trailer.payload_plaintext_bytes,
        )

    def _check_empty_payload(self) -> None:
        sealed = read_exactly(self._source, HEAD_BYTES, TAG_BYTES)
        self._cipher.open(0, memoryview(sealed), memoryview(bytearray()), last=True)

    def _read_frames(self, frames: FrameIndex, offset: int, out: memoryview) -> None:
        written = 0
        while written < len(out):
            frame = frames.frame_at(offset + written)
            skip = offset + written - frame.plaintext_start
            size = min(len(out) - written, frame.plaintext_bytes - skip)
            self._read_frame(frame, skip, out[written : written + size])
            written += size

    def _read_frame(self, frame: Frame, skip: int, out: memoryview) -> None:
        if frame.raw:
            self._read_payload(frame.payload_start + skip, out)
            return
        packed = self._scratch.view("frame", frame.payload_bytes)
        self._read_payload(frame.payload_start, packed)
        out[:] = memoryview(decompress(packed, frame.plaintext_bytes))[skip : skip + len(out)]

    def _read_payload(self, offset: int, out: memoryview) -> None:
        run = max(1, RUN_BYTES // self._layout.segment_bytes)
        end, written = offset + len(out), 0
        while written < len(out):
            first = self._layout.segment_at(offset + written)
            last = min(first + run - 1, self._layout.segment_at(end - 1))
            skip = offset + written - self._layout.plaintext_start(first)
            written += self._read_segments(first, last, skip, out[written:])

    def _read_segments(self, first: int, last: int, skip: int, out: memoryview) -> int:
        start, end = self._layout.ciphertext_start(first), self._layout.ciphertext_end(last)
        sealed = self._scratch.view("ciphertext", end - start)
        if self._source.read_into(HEADER_BYTES + start, sealed) != len(sealed):
            raise BlobDamagedError("the container is shorter than when it was opened")
        return self._cipher.open_run(self._layout, first, sealed, skip, out)
