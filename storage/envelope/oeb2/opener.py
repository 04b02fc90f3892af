"""Verification of a container, and reading of its plaintext (docs/blob-format-oeb2.md, "reading")."""

import hashlib
import hmac

from storage.delivery_key import DeliveryKey
from storage.digest import Digest
from storage.envelope.buffers import RUN_BYTES, Data, Scratch
from storage.envelope.oeb2.keys import Keys
from storage.envelope.oeb2.sidecar import Sidecar, Trailer, Unlocked
from storage.errors import BlobDamagedError, BlobRangeError
from storage.ports import ObjectReader


class CiphertextHashes:
    """Hashes of the ciphertext, to be compared with the trailer."""

    def __init__(self, keys: Keys, trailer: Trailer) -> None:
        self._sha256 = hashlib.sha256()
        self._hmac = keys.hmac()
        self._trailer = trailer

    def update(self, ciphertext: Data) -> None:
        """Process more ciphertext."""
        self._sha256.update(ciphertext)
        self._hmac.update(ciphertext)

    def check(self) -> None:
        """Raise BlobDamagedError unless all of the ciphertext has the digest and HMAC of the trailer."""
        if self._sha256.digest() != self._trailer.ciphertext_sha256:
            raise BlobDamagedError("the ciphertext does not match its digest")
        if self._hmac.digest() != self._trailer.hmac:
            raise BlobDamagedError("the ciphertext does not match its HMAC")


class Container:
    """Verified container, open for reading. All methods block. Threads may share it.

    Args:
        source: Object with the ciphertext; the caller closes it.
        sidecar: The whole sidecar.
        unlocked: Verified start of the sidecar, possibly cached.
        digest: Expected digest of the plaintext.
        ciphertext: Expected digest of the ciphertext.
        scratch: Buffers for ciphertext.

    Raises:
        BlobDamagedError: One of the checks fails.
    """

    def __init__(
        self,
        source: ObjectReader,
        sidecar: bytes,
        unlocked: Unlocked,
        *,
        digest: Digest,
        ciphertext: Digest | None,
        scratch: Scratch,
    ) -> None:
        self._source = source
        self._sidecar = Sidecar.open(sidecar, unlocked.header, unlocked.keys)
        self._keys = unlocked.keys
        self._segment_bytes = unlocked.header.segment_bytes
        self._digest = digest
        self._scratch = scratch
        trailer = self.trailer = self._sidecar.trailer
        if source.size_bytes != trailer.size_bytes:
            raise BlobDamagedError("the object's length is not the one in its sidecar")
        # The key record's AAD binds digests of other algorithms to the container.
        if digest.algorithm == "sha256" and not hmac.compare_digest(
            trailer.plaintext_sha256.hex(), digest.hex
        ):
            raise BlobDamagedError("the container contains another blob")
        if ciphertext != trailer.ciphertext:
            raise BlobDamagedError("the container has another ciphertext than its key record")

    @property
    def size_bytes(self) -> int:
        """Length of the plaintext."""
        return self.trailer.size_bytes

    def delivery_key(self) -> DeliveryKey:
        """Return the secrets with which a node decrypts the ciphertext."""
        return DeliveryKey(
            plaintext=self._digest,
            ciphertext=self.trailer.ciphertext,
            size_bytes=self.size_bytes,
            symkey=self._keys.symkey,
            nonce=self._keys.nonce,
            hmac=self.trailer.hmac,
            head=self.trailer.head_sha256,
            root=self._keys.delivery_root,
        )

    def ciphertext_hashes(self) -> CiphertextHashes:
        """Return hashes for a verification of the whole ciphertext."""
        return CiphertextHashes(self._keys, self.trailer)

    def read_into(self, offset: int, buffer: memoryview, hashes: CiphertextHashes | None = None) -> int:
        """Fill `buffer` with plaintext from `offset`. Returns the number of bytes, fewer at the blob's end.

        Args:
            hashes: Receives the ciphertext of the range, which must consist of whole segments.

        Raises:
            BlobRangeError: `offset` is outside the blob.
            BlobDamagedError: A segment is damaged. The content of `buffer` must not be used.
        """
        if not 0 <= offset <= self.size_bytes:
            raise BlobRangeError(f"offset {offset} is outside the blob of {self.size_bytes} bytes")
        buffer = buffer[: self.size_bytes - offset]
        if not buffer:
            return 0
        stream, written = self._keys.stream(offset), 0
        while written < len(buffer):
            ciphertext = self._read_verified(offset + written, len(buffer) - written)
            if hashes is not None:
                hashes.update(ciphertext)
            stream.update_into(ciphertext, buffer[written : written + len(ciphertext)])
            written += len(ciphertext)
        return written

    def piece_end(self, offset: int, wanted_bytes: int) -> int:
        """Return the end of a piece from `offset` such that no segment is verified twice.

        The piece has about `wanted_bytes`, but at least one segment.
        """
        size = self._segment_bytes
        return min((offset // size + max(1, wanted_bytes // size)) * size, self.size_bytes)

    def _read_verified(self, offset: int, wanted_bytes: int) -> memoryview:
        """Return ciphertext from `offset`, at most a run of segments, all of which authenticate."""
        size = self._segment_bytes
        first = offset // size
        start = first * size
        wanted_end = min(offset + wanted_bytes, start + max(size, RUN_BYTES))
        end = min(-(-wanted_end // size) * size, self.size_bytes)
        run = self._scratch.view("ciphertext", end - start)
        if self._source.read_into(start, run) != len(run):
            raise BlobDamagedError("the container is shorter than when it was opened")
        for at in range(0, len(run), size):
            index = first + at // size
            self._keys.verify(index, run[at : at + size], self._sidecar.tag(index))
        return run[offset - start : wanted_end - start]
