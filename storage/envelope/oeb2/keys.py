"""Keys of a container, derived from its data key (docs/blob-format-oeb2.md, "keys")."""

import hmac
import struct
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from storage.envelope.buffers import Data
from storage.envelope.key import DataKey
from storage.envelope.oeb2.header import Header
from storage.errors import BlobDamagedError

TAG_BYTES: Final = 16
NONCE_BYTES: Final = 16
_AES_BLOCK_BYTES = 16
_COUNTERS = 1 << 128
_TAG_NONCE = struct.Struct(">4xQ")
_TRAILER_NONCE = bytes(12)


class Keys:
    """Keys of one container. Threads may share them. They do not contain the data key.

    Attributes:
        symkey: Key of the ciphertext and of its HMAC, which nodes get.
        nonce: Initial counter of the ciphertext, which nodes get.
        delivery_root: Secret for `DeliveryKey.derive`, which nodes never get.
    """

    __slots__ = ("_tags", "_trailer", "delivery_root", "nonce", "symkey")

    def __init__(
        self, *, symkey: bytes, nonce: bytes, tag_key: bytes, trailer_key: bytes, delivery_root: bytes
    ) -> None:
        self.symkey = symkey
        self.nonce = nonce
        self.delivery_root = delivery_root
        self._tags = AESGCM(tag_key)
        self._trailer = AESGCM(trailer_key)

    @classmethod
    def derive(cls, key: DataKey, header: Header) -> Self:
        """Derive all keys of the container with this header."""

        def derived(label: bytes) -> bytes:
            return key.derive(header.file_id, label + header.encode())

        return cls(
            symkey=derived(b"oeb2-symkey"),
            nonce=derived(b"oeb2-nonce")[:NONCE_BYTES],
            tag_key=derived(b"oeb2-tag"),
            trailer_key=derived(b"oeb2-trailer"),
            delivery_root=derived(b"oeb2-derive"),
        )

    def stream(self, offset: int = 0) -> CipherContext:
        """Return the cipher for the bytes from `offset`. It encrypts and decrypts."""
        block, skip = divmod(offset, _AES_BLOCK_BYTES)
        counter = (int.from_bytes(self.nonce, "big") + block) % _COUNTERS
        cipher = Cipher(AES(self.symkey), CTR(counter.to_bytes(NONCE_BYTES, "big"))).encryptor()
        cipher.update(bytes(skip))
        return cipher

    def hmac(self) -> hmac.HMAC:
        """Return a new HMAC for the ciphertext."""
        return hmac.new(self.symkey, digestmod="sha256")

    def tag(self, index: int, segment: Data) -> bytes:
        """Return the tag of a segment of ciphertext. Never call it twice with one index and other bytes."""
        return self._tags.encrypt(_TAG_NONCE.pack(index), b"", segment)

    def verify(self, index: int, segment: Data, tag: Data) -> None:
        """Raise BlobDamagedError unless `tag` is the tag of this segment of ciphertext."""
        try:
            self._tags.decrypt(_TAG_NONCE.pack(index), tag, segment)
        except InvalidTag:
            raise BlobDamagedError(f"segment {index} does not authenticate") from None

    def seal_trailer(self, trailer: bytes, before: Data) -> bytes:
        """Seal the trailer, with all bytes of the sidecar before it."""
        return self._trailer.encrypt(_TRAILER_NONCE, trailer, before)

    def open_trailer(self, sealed: Data, before: Data) -> bytes:
        """Decrypt the trailer. Raises BlobDamagedError: it, or the bytes before it, do not authenticate."""
        try:
            return self._trailer.decrypt(_TRAILER_NONCE, sealed, before)
        except InvalidTag:
            raise BlobDamagedError("the sidecar does not authenticate") from None

    def __repr__(self) -> str:
        return "Keys(...)"

    def __reduce__(self) -> str:
        raise TypeError("the keys of a container cannot be pickled")
