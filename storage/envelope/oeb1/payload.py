"""Segments: Tink's AES256-GCM-HKDF streaming AEAD (docs/blob-format.md, "payload")."""

import struct
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.envelope.key import DataKey
from storage.envelope.oeb1.header import Header
from storage.errors import BlobDamagedError, BlobRangeError

TAG_BYTES = 16
SALT_BYTES = 32
PREFIX_BYTES = 7
PAYLOAD_HEADER_BYTES = 1 + SALT_BYTES + PREFIX_BYTES
MAX_SEGMENTS = 1 << 32
_NONCE = struct.Struct(">7sIB")


@dataclass(frozen=True, slots=True)
class SegmentLayout:
    """Offsets of the segments in a payload's plaintext and ciphertext.

    Segment 0 is shorter by the length of the payload's header, so that segment boundaries in the ciphertext
    are multiples of the segment size.

    Attributes:
        segment_bytes: Ciphertext bytes of a full segment.
        plaintext_bytes: Plaintext bytes of the whole payload.
    """

    segment_bytes: int
    plaintext_bytes: int

    @property
    def capacity(self) -> int:
        """Plaintext bytes of a full segment after the first."""
        return self.segment_bytes - TAG_BYTES

    @property
    def segments(self) -> int:
        """Number of segments; an empty payload has one."""
        return max(1, -(-(self.plaintext_bytes + PAYLOAD_HEADER_BYTES) // self.capacity))

    @property
    def ciphertext_bytes(self) -> int:
        """Ciphertext bytes of the whole payload, including its header."""
        return PAYLOAD_HEADER_BYTES + self.plaintext_bytes + TAG_BYTES * self.segments

    def segment_at(self, offset: int) -> int:
        """Return the index of the segment that contains the plaintext byte at `offset`."""
        return (offset + PAYLOAD_HEADER_BYTES) // self.capacity

    def plaintext_start(self, index: int) -> int:
        """Return the plaintext offset of a segment's first byte."""
        return max(0, index * self.capacity - PAYLOAD_HEADER_BYTES)

    def plaintext_end(self, index: int) -> int:
        """Return the plaintext offset after a segment's last byte."""
        return min(self.plaintext_bytes, self.plaintext_start(index + 1))

    def ciphertext_start(self, index: int) -> int:
        """Return the payload offset of a segment's first ciphertext byte."""
        return max(PAYLOAD_HEADER_BYTES, index * self.segment_bytes)

    def ciphertext_end(self, index: int) -> int:
        """Return the payload offset after a segment's tag."""
        return min(self.ciphertext_bytes, (index + 1) * self.segment_bytes)


class SegmentCipher:
    """Cipher for the segments of one payload. Threads may share it."""

    __slots__ = ("_aead", "_prefix")

    def __init__(self, aead: AESGCM, prefix: bytes) -> None:
        self._aead = aead
        self._prefix = prefix

    @classmethod
    def derive(cls, key: DataKey, header: Header, payload_header: bytes) -> Self:
        """Derive the cipher from the payload's header of 40 bytes.

        Raises:
            BlobDamagedError: The payload header has another length than the suite allows.
        """
        if payload_header[:1] != bytes([PAYLOAD_HEADER_BYTES]) or len(payload_header) != PAYLOAD_HEADER_BYTES:
            raise BlobDamagedError("the payload's header does not match the suite")
        salt, prefix = payload_header[1 : 1 + SALT_BYTES], payload_header[1 + SALT_BYTES :]
        return cls(key.payload_cipher(salt, header.encode()), prefix)

    def seal(
        self, index: int, plaintext: bytes | bytearray | memoryview, out: memoryview, *, last: bool
    ) -> int:
        """Encrypt one segment into `out`.

        The nonce consists of the payload's prefix, `index` and the last flag. It never repeats under one key,
        and a reordered, missing or truncated segment fails to authenticate.

        Args:
            index: Position of the segment, from 0. The caller must never pass an index twice.
            plaintext: The full capacity of the segment; fewer bytes only if `last`.
            out: At least 16 bytes longer than `plaintext`.
            last: Whether this segment ends the payload.

        Returns:
            Bytes written: ciphertext and its tag.

        Raises:
            BlobRangeError: The payload has more segments than the format can count.
        """
        if index >= MAX_SEGMENTS:
            raise BlobRangeError(f"a container has at most {MAX_SEGMENTS} segments")
        nonce = _NONCE.pack(self._prefix, index, last)
        return self._aead.encrypt_into(nonce, plaintext, None, out[: len(plaintext) + TAG_BYTES])

    def open(self, index: int, ciphertext: memoryview, out: memoryview, *, last: bool) -> int:
        """Decrypt one segment into `out`, which is exactly 16 bytes shorter.

        Raises:
            BlobDamagedError: The segment does not authenticate. `out` is wiped.
        """
        nonce = _NONCE.pack(self._prefix, index, last)
        try:
            return self._aead.decrypt_into(nonce, ciphertext, None, out)
        except InvalidTag:
            out[:] = bytes(len(out))
            raise BlobDamagedError(f"segment {index} does not authenticate") from None

    def open_run(
        self, layout: SegmentLayout, first: int, ciphertext: memoryview, skip: int, out: memoryview
    ) -> int:
        """Decrypt consecutive whole segments into `out`.

        Args:
            layout: Layout of the payload.
            first: Index of the first segment in `ciphertext`.
            ciphertext: One or more whole segments.
            skip: Plaintext bytes to skip at the start, fewer than the first segment contains.
            out: Filled to its end, or to the end of the segments.

        Returns:
            Bytes written to `out`.

        Raises:
            BlobDamagedError: A segment does not authenticate.
        """
        start, border = 0, layout.ciphertext_end(first) - layout.ciphertext_start(first)
        written, index, final = 0, first, layout.segments - 1
        while written < len(out) and start < len(ciphertext):
            sealed = ciphertext[start:border]
            size = len(sealed) - TAG_BYTES
            if skip == 0 and size <= len(out) - written:
                written += self.open(index, sealed, out[written : written + size], last=index == final)
            else:
                whole = memoryview(bytearray(size))
                self.open(index, sealed, whole, last=index == final)
                part = whole[skip : skip + len(out) - written]
                out[written : written + len(part)] = part
                written += len(part)
            start, border, index, skip = border, border + layout.segment_bytes, index + 1, 0
        return written
