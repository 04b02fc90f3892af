"""Containers of the format OEB2 made and opened in memory, for tests of the format."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from storage.backends.memory import MemoryObjectReader
from storage.digest import Digest
from storage.envelope.buffers import Scratch
from storage.envelope.key import DataKey
from storage.envelope.oeb2 import HEADER_BYTES, Container, Unlocked
from storage.envelope.oeb2.sealer import Sealer
from storage.errors import BlobDamagedError
from tests.support.containers import KEY, SEGMENT_LOG2, counter

SEGMENT = 1 << SEGMENT_LOG2


@dataclass(frozen=True)
class Sealed:
    """A container: its two objects, and the digest of its ciphertext in the key record."""

    ciphertext: bytes
    sidecar: bytes
    digest: Digest

    def damaged(self, *, ciphertext: bytes | None = None, sidecar: bytes | None = None) -> "Sealed":
        """Replace objects, but not the digest in the key record."""
        return replace(
            self,
            ciphertext=self.ciphertext if ciphertext is None else ciphertext,
            sidecar=self.sidecar if sidecar is None else sidecar,
        )


def seal(
    plaintext: bytes,
    *,
    key: DataKey = KEY,
    entropy: Callable[[int], bytes] | None = None,
    seed: bytes = b"vector",
    piece: int = 0,
) -> Sealed:
    """Seal a whole blob, fed in pieces of `piece` bytes."""
    sealer = Sealer(key, segment_log2=SEGMENT_LOG2, entropy=entropy or counter(seed))
    piece, parts = piece or max(1, len(plaintext)), []
    for at in range(0, len(plaintext), piece):
        part = plaintext[at : at + piece]
        out = bytearray(len(part))
        sealer.encrypt(part, memoryview(out))
        sealer.authenticate(out)
        parts.append(bytes(out))
    sidecar, trailer = sealer.finish(hashlib.sha256(plaintext).digest())
    return Sealed(b"".join(parts), sidecar, trailer.ciphertext)


def open_container(sealed: Sealed, digest: Digest, key: DataKey = KEY) -> Container:
    """Open a container."""
    return Container(
        MemoryObjectReader(sealed.ciphertext),
        sealed.sidecar,
        Unlocked.unlock(key, sealed.sidecar[:HEADER_BYTES]),
        digest=digest,
        ciphertext=sealed.digest,
        scratch=Scratch(),
    )


def unseal(sealed: Sealed, digest: Digest, key: DataKey = KEY) -> bytes:
    """Open a container and read all of it."""
    opened = open_container(sealed, digest, key)
    return read(opened, 0, opened.size_bytes)


def read(container: Container, offset: int, length: int) -> bytes:
    """Read one range."""
    buffer = bytearray(length)
    assert container.read_into(offset, memoryview(buffer)) == length
    return bytes(buffer)


def refused(sealed: Sealed, plaintext: bytes, key: DataKey = KEY) -> bool:
    """Return whether a container is refused, at the latest when it is read."""
    try:
        unseal(sealed, Digest.of(plaintext), key)
    except BlobDamagedError:
        return True
    return False
