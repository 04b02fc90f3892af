"""Sidecar: header, tags of the segments, authenticated trailer (docs/blob-format-oeb2.md, "sidecar")."""

import struct
from dataclasses import dataclass
from typing import Final, Self

from storage.digest import Digest
from storage.envelope.key import DataKey
from storage.envelope.oeb2.header import HEADER_BYTES, Header
from storage.envelope.oeb2.keys import TAG_BYTES, Keys
from storage.errors import BlobDamagedError

_FIELDS = struct.Struct(">Q24s32s32s32s32s")
TRAILER_BYTES: Final = _FIELDS.size + TAG_BYTES
HEAD_BYTES: Final = 4096
_ZERO = bytes(24)


@dataclass(frozen=True, slots=True)
class Trailer:
    """Length and digests of a blob and of its ciphertext.

    Attributes:
        size_bytes: Length of the blob, and of its ciphertext.
        plaintext_sha256: Digest of the blob.
        ciphertext_sha256: Digest of the ciphertext.
        hmac: HMAC-SHA256 of the ciphertext, as ocicrypt defines it.
        head_sha256: Digest of the first `HEAD_BYTES` of the ciphertext.
    """

    size_bytes: int
    plaintext_sha256: bytes
    ciphertext_sha256: bytes
    hmac: bytes
    head_sha256: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse a decrypted trailer. Raises BlobDamagedError: its reserved bytes are not zero."""
        size_bytes, zero, *digests = _FIELDS.unpack(data)
        if zero != _ZERO:
            raise BlobDamagedError("the trailer has reserved bytes set")
        return cls(size_bytes, *digests)

    def encode(self) -> bytes:
        """Return the bytes of the trailer, for sealing."""
        digests = self.plaintext_sha256, self.ciphertext_sha256, self.hmac, self.head_sha256
        return _FIELDS.pack(self.size_bytes, _ZERO, *digests)

    @property
    def ciphertext(self) -> Digest:
        """Digest of the ciphertext."""
        return Digest("sha256", self.ciphertext_sha256.hex())


def sidecar_bytes(segments: int) -> int:
    """Return the length of a sidecar."""
    return HEADER_BYTES + segments * TAG_BYTES + TRAILER_BYTES


class Sidecar:
    """Verified sidecar. Threads may share it."""

    __slots__ = ("_tags", "header", "trailer")

    def __init__(self, header: Header, tags: memoryview, trailer: Trailer) -> None:
        self.header = header
        self.trailer = trailer
        self._tags = tags

    @classmethod
    def open(cls, data: bytes, header: Header, keys: Keys) -> Self:
        """Verify a whole sidecar (docs/blob-format-oeb2.md, "reading").

        Args:
            data: The whole object.
            header: Header that commits to the blob's data key.
            keys: Keys derived for this header.

        Raises:
            BlobDamagedError: One of the checks fails.
        """
        view, border = memoryview(data), len(data) - TRAILER_BYTES
        if border < HEADER_BYTES or view[:HEADER_BYTES] != header.encode():
            raise BlobDamagedError("the start of the sidecar has changed")
        trailer = Trailer.parse(keys.open_trailer(view[border:], view[:border]))
        if len(data) != sidecar_bytes(header.segments(trailer.size_bytes)):
            raise BlobDamagedError("the sidecar does not have one tag for each segment")
        return cls(header, view[HEADER_BYTES:border], trailer)

    def tag(self, index: int) -> memoryview:
        """Return the tag of a segment."""
        return self._tags[index * TAG_BYTES : (index + 1) * TAG_BYTES]


@dataclass(frozen=True, slots=True, repr=False)
class Unlocked:
    """Verified header, and the keys derived from it and the data key, which it does not contain."""

    header: Header
    keys: Keys

    @classmethod
    def unlock(cls, key: DataKey, head: bytes) -> Self:
        """Verify the first 64 bytes of a sidecar, and their commitment to `key`. Raises BlobDamagedError."""
        header = Header.parse(head[:HEADER_BYTES])
        header.check(key)
        return cls(header, Keys.derive(key, header))
