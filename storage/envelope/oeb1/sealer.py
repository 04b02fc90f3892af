"""Encryption of a blob of unknown length into a container, in pieces (docs/blob-format.md, "writing")."""

import os

from storage.envelope.buffers import Data, Entropy
from storage.envelope.key import DataKey
from storage.envelope.oeb1.frames import FrameCompressor
from storage.envelope.oeb1.header import (
    DEFAULT_FRAME_LOG2,
    DEFAULT_SEGMENT_LOG2,
    FILE_ID_BYTES,
    HEADER_BYTES,
    Codec,
    Header,
)
from storage.envelope.oeb1.payload import (
    PAYLOAD_HEADER_BYTES,
    PREFIX_BYTES,
    SALT_BYTES,
    TAG_BYTES,
    SegmentCipher,
    SegmentLayout,
)
from storage.envelope.oeb1.trailer import TRAILER_BYTES, MetaCipher, Trailer


class _SegmentSealer:
    """Splits a payload into segments. Holds a full segment back until it is known whether it is the last."""

    def __init__(self, cipher: SegmentCipher, segment_bytes: int) -> None:
        self._cipher = cipher
        self._layout = SegmentLayout(segment_bytes, 0)
        self._held = memoryview(bytearray(segment_bytes))
        self._fill = 0
        self._index = 0
        self._out = memoryview(bytearray())
        self.plaintext_bytes = 0
        self.ciphertext_bytes = PAYLOAD_HEADER_BYTES

    def feed(self, data: Data) -> memoryview:
        """Seal all segments that are complete. The result is valid until the next call."""
        view = memoryview(data)
        self.plaintext_bytes += len(view)
        out, written = self._room(self._fill + len(view)), 0
        while self._fill + len(view) > (capacity := self._capacity()):
            taken = capacity - self._fill
            if self._fill:
                self._held[self._fill : capacity] = view[:taken]
                segment = self._held[:capacity]
            else:
                segment = view[:capacity]
            self._fill = 0
            written += self._seal(segment, out[written:], last=False)
            view = view[taken:]
        self._held[self._fill : self._fill + len(view)] = view
        self._fill += len(view)
        return out[:written]

    def finish(self) -> memoryview:
        """Seal the last segment, which may be full, short or empty."""
        out = self._room(self._fill)
        return out[: self._seal(self._held[: self._fill], out, last=True)]

    def _capacity(self) -> int:
        return self._layout.plaintext_start(self._index + 1) - self._layout.plaintext_start(self._index)

    def _seal(self, plaintext: memoryview, out: memoryview, *, last: bool) -> int:
        # Increment before use, so that no index is ever sealed twice under this key, even after an error.
        index, self._index = self._index, self._index + 1
        written = self._cipher.seal(index, plaintext, out, last=last)
        self.ciphertext_bytes += written
        return written

    def _room(self, plaintext_bytes: int) -> memoryview:
        segments = plaintext_bytes // (self._layout.capacity - PAYLOAD_HEADER_BYTES) + 1
        needed = plaintext_bytes + TAG_BYTES * segments
        if len(self._out) < needed:
            self._out = memoryview(bytearray(needed))
        return self._out


class Sealer:
    """Seals one blob into one container. For one thread at a time.

    Write `head` first, then the results of `feed` and finally of `finish`, in this order.

    Args:
        key: New key, used for this container only.
        codec: Result of `frames.choose_codec` for the start of the blob.
        entropy: Source of random bytes; injected only to create test vectors.
    """

    def __init__(
        self,
        key: DataKey,
        *,
        codec: Codec = Codec.NONE,
        segment_log2: int = DEFAULT_SEGMENT_LOG2,
        frame_log2: int = DEFAULT_FRAME_LOG2,
        entropy: Entropy = os.urandom,
    ) -> None:
        self.header = Header.create(
            key,
            segment_log2=segment_log2,
            codec=codec,
            frame_log2=frame_log2 if codec is Codec.ZSTD else 0,
            file_id=entropy(FILE_ID_BYTES),
        )
        payload_header = bytes([PAYLOAD_HEADER_BYTES]) + entropy(SALT_BYTES) + entropy(PREFIX_BYTES)
        self.head = self.header.encode() + payload_header
        self._meta = MetaCipher.derive(key, self.header)
        self._segments = _SegmentSealer(
            SegmentCipher.derive(key, self.header, payload_header), self.header.segment_bytes
        )
        self._compressor = FrameCompressor() if codec is Codec.ZSTD else None
        self._frame = memoryview(bytearray(self.header.frame_bytes if self._compressor else 0))
        self._frame_fill = 0
        self._plaintext_bytes = 0
        self._finished = False

    @property
    def container_bytes(self) -> int:
        """Length of the whole container; final after `finish`."""
        return HEADER_BYTES + self._segments.ciphertext_bytes + self._index_bytes() + TRAILER_BYTES

    def feed(self, data: Data) -> bytes | memoryview:
        """Encrypt plaintext. Returns ciphertext, valid until the next call."""
        if self._finished:
            raise RuntimeError("the container is finished")
        self._plaintext_bytes += len(data)
        if self._compressor is None:
            return self._segments.feed(data)
        return self._feed_frames(self._compressor, memoryview(data))

    def finish(self, sha256: bytes) -> bytes:
        """Return the end of the container: last segment, index, trailer.

        Args:
            sha256: Hash of the whole plaintext, 32 bytes.
        """
        if self._finished:
            raise RuntimeError("the container is finished")
        self._finished = True
        parts = []
        if self._compressor and self._frame_fill:
            parts.append(
                bytes(self._segments.feed(self._compressor.compress(self._frame[: self._frame_fill])))
            )
        parts.append(bytes(self._segments.finish()))
        if self._compressor:
            parts.append(self._meta.seal_index(self._compressor.index()))
        trailer = Trailer(
            plaintext_bytes=self._plaintext_bytes,
            payload_plaintext_bytes=self._segments.plaintext_bytes,
            payload_ciphertext_bytes=self._segments.ciphertext_bytes,
            frames=self._compressor.frames if self._compressor else 0,
            index_bytes=self._index_bytes(),
            sha256=sha256,
        )
        parts.append(self._meta.seal_trailer(trailer))
        return b"".join(parts)

    def _feed_frames(self, compressor: FrameCompressor, view: memoryview) -> bytes:
        parts = []
        while len(view):
            part = view[: len(self._frame) - self._frame_fill]
            self._frame[self._frame_fill : self._frame_fill + len(part)] = part
            self._frame_fill += len(part)
            view = view[len(part) :]
            if self._frame_fill == len(self._frame):
                parts.append(bytes(self._segments.feed(compressor.compress(self._frame))))
                self._frame_fill = 0
        return b"".join(parts)

    def _index_bytes(self) -> int:
        return 4 * self._compressor.frames + TAG_BYTES if self._compressor else 0
