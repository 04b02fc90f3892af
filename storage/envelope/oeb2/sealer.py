"""Encryption of a blob of unknown length, in pieces (docs/blob-format-oeb2.md, "writing")."""

import hashlib
import os

from storage.envelope.buffers import Data, Entropy
from storage.envelope.key import DataKey
from storage.envelope.oeb2.header import DEFAULT_SEGMENT_LOG2, FILE_ID_BYTES, Header
from storage.envelope.oeb2.keys import Keys
from storage.envelope.oeb2.sidecar import HEAD_BYTES, Trailer


class Sealer:
    """Seals one blob into ciphertext and sidecar.

    Pass each result of `encrypt` to `authenticate`, in order. Each method is for one thread at a time; the
    two may run in different threads. Call `finish` after both.

    Args:
        key: New key, used for this container only.
        entropy: Source of random bytes; injected only to create test vectors.
    """

    def __init__(
        self, key: DataKey, *, segment_log2: int = DEFAULT_SEGMENT_LOG2, entropy: Entropy = os.urandom
    ) -> None:
        self.header = Header.create(key, segment_log2=segment_log2, file_id=entropy(FILE_ID_BYTES))
        self._keys = Keys.derive(key, self.header)
        self._stream = self._keys.stream()
        self._tags = _Tags(self._keys, self.header.segment_bytes)
        self._sha256 = hashlib.sha256()
        self._head = bytearray()
        self._hmac = self._keys.hmac()
        self._size_bytes = 0
        self._finished = False

    def encrypt(self, data: Data, out: memoryview) -> None:
        """Encrypt plaintext into `out`, which has its length, and compute tags and digest."""
        if self._finished:
            raise RuntimeError("the container is finished")
        self._stream.update_into(data, out)
        self._tags.update(out)
        self._sha256.update(out)
        self._head += out[: HEAD_BYTES - len(self._head)]
        self._size_bytes += len(out)

    def authenticate(self, ciphertext: Data) -> None:
        """Compute the HMAC of more ciphertext."""
        self._hmac.update(ciphertext)

    def finish(self, plaintext_sha256: bytes) -> tuple[bytes, Trailer]:
        """Return the sidecar, and the trailer in it.

        Args:
            plaintext_sha256: Hash of the whole plaintext, 32 bytes.
        """
        if self._finished:
            raise RuntimeError("the container is finished")
        self._finished = True
        trailer = Trailer(
            size_bytes=self._size_bytes,
            plaintext_sha256=plaintext_sha256,
            ciphertext_sha256=self._sha256.digest(),
            hmac=self._hmac.digest(),
            head_sha256=hashlib.sha256(self._head).digest(),
        )
        before = self.header.encode() + self._tags.finish()
        return before + self._keys.seal_trailer(trailer.encode(), before), trailer


class _Tags:
    """Tags of the segments of ciphertext that arrives in pieces of any length."""

    def __init__(self, keys: Keys, segment_bytes: int) -> None:
        self._keys = keys
        self._segment_bytes = segment_bytes
        self._held = bytearray()
        self._tags = bytearray()
        self._index = 0

    def update(self, ciphertext: memoryview) -> None:
        while len(self._held) + len(ciphertext) >= self._segment_bytes:
            taken = self._segment_bytes - len(self._held)
            if self._held:
                self._held += ciphertext[:taken]
                self._add(self._held)
                self._held = bytearray()
            else:
                self._add(ciphertext[:taken])
            ciphertext = ciphertext[taken:]
        self._held += ciphertext

    def finish(self) -> bytes:
        if self._held:
            self._add(self._held)
        return bytes(self._tags)

    def _add(self, segment: Data) -> None:
        self._tags += self._keys.tag(self._index, segment)
        self._index += 1
