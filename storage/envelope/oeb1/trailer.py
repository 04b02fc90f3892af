"""Trailer of a container: its lengths and the digest of its plaintext (docs/blob-format.md, "trailer")."""

import struct
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.envelope.key import DataKey
from storage.envelope.oeb1.header import HEADER_BYTES, Codec, Header
from storage.envelope.oeb1.payload import TAG_BYTES, SegmentLayout
from storage.errors import BlobDamagedError

_FIELDS = struct.Struct(">QQQII32s16s")
TRAILER_BYTES = _FIELDS.size + TAG_BYTES
_ZERO = bytes(16)
_TRAILER_NONCE = bytes(12)
_INDEX_NONCE = bytes(11) + b"\x01"
_FRAME_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Trailer:
    """Lengths of a container's parts, and the digest.

    Attributes:
        plaintext_bytes: Length of the blob.
        payload_plaintext_bytes: Length of the payload before sealing: the blob, or its compressed frames.
        payload_ciphertext_bytes: Length of the payload in the container.
        frames: Number of frames; 0 without a codec.
        index_bytes: Length of the sealed index; 0 without a codec.
        sha256: Digest of the blob, 32 bytes.
    """

    plaintext_bytes: int
    payload_plaintext_bytes: int
    payload_ciphertext_bytes: int
    frames: int
    index_bytes: int
    sha256: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse a decrypted trailer. Raises BlobDamagedError: its reserved bytes are not zero."""
        *fields, zero = _FIELDS.unpack(data)
        if zero != _ZERO:
            raise BlobDamagedError("the trailer has reserved bytes set")
        return cls(*fields)

    def encode(self) -> bytes:
        """Return the bytes of the trailer, for sealing."""
        return _FIELDS.pack(
            self.plaintext_bytes,
            self.payload_plaintext_bytes,
            self.payload_ciphertext_bytes,
            self.frames,
            self.index_bytes,
            self.sha256,
            _ZERO,
        )

    def check(self, header: Header, container_bytes: int) -> None:
        """Raise BlobDamagedError unless the lengths match each other, the header and the object."""
        layout = SegmentLayout(header.segment_bytes, self.payload_plaintext_bytes)
        whole = HEADER_BYTES + self.payload_ciphertext_bytes + self.index_bytes + TRAILER_BYTES
        if whole != container_bytes or layout.ciphertext_bytes != self.payload_ciphertext_bytes:
            raise BlobDamagedError("the container's lengths do not add up to the object")
        if header.codec is Codec.NONE:
            expected = (self.plaintext_bytes, 0, 0)
        else:
            frames = -(-self.plaintext_bytes // header.frame_bytes)
            expected = (self.payload_plaintext_bytes, frames, frames * _FRAME_LENGTH_BYTES + TAG_BYTES)
        if (self.payload_plaintext_bytes, self.frames, self.index_bytes) != expected:
            raise BlobDamagedError("the container's lengths do not match its codec")


class MetaCipher:
    """Cipher for the trailer and the index of one container. Each is sealed exactly once per data key."""

    __slots__ = ("_aad", "_aead")

    def __init__(self, aead: AESGCM, header: bytes) -> None:
        self._aead = aead
        self._aad = header

    @classmethod
    def derive(cls, key: DataKey, header: Header) -> Self:
        """Derive the cipher of the container with this header."""
        return cls(key.meta_cipher(header.file_id, header.start), header.encode())

    def seal_trailer(self, trailer: Trailer) -> bytes:
        """Seal the trailer. Returns the container's last 96 bytes."""
        return self._aead.encrypt(_TRAILER_NONCE, trailer.encode(), self._aad)

    def open_trailer(self, sealed: bytes) -> Trailer:
        """Decrypt the trailer. Raises BlobDamagedError: it does not authenticate."""
        return Trailer.parse(self._open(_TRAILER_NONCE, sealed, "trailer"))

    def seal_index(self, index: bytes) -> bytes:
        """Seal the index. Returns the bytes between payload and trailer."""
        return self._aead.encrypt(_INDEX_NONCE, index, self._aad)

    def open_index(self, sealed: bytes) -> bytes:
        """Decrypt the index. Raises BlobDamagedError: it does not authenticate."""
        return self._open(_INDEX_NONCE, sealed, "index")

    def _open(self, nonce: bytes, sealed: bytes, part: str) -> bytes:
        try:
            return self._aead.decrypt(nonce, sealed, self._aad)
        except InvalidTag:
            raise BlobDamagedError(f"the {part} does not authenticate") from None
