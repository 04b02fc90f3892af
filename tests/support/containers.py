"""Containers made and opened in memory, for tests of the format."""

import hashlib
from collections.abc import Callable

from storage.backends.memory import MemoryObjectReader
from storage.digest import Digest
from storage.envelope.buffers import Scratch
from storage.envelope.key import DataKey
from storage.envelope.oeb1.header import Codec
from storage.envelope.oeb1.opener import HEAD_BYTES, Container, Unlocked
from storage.envelope.oeb1.sealer import Sealer

SEGMENT_LOG2 = 16
FRAME_LOG2 = 16
FIRST_CAPACITY = (1 << SEGMENT_LOG2) - 40 - 16
CAPACITY = (1 << SEGMENT_LOG2) - 16
KEY = DataKey(bytes(range(32)))


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not compress: SHA-256 of the seed and a counter, as the vectors define it."""
    blocks = range(-(-size // 32))
    return b"".join(hashlib.sha256(b"%d:%d" % (seed, block)).digest() for block in blocks)[:size]


def text(size: int) -> bytes:
    """Bytes that compress well, no two lines alike."""
    lines = range(size // 20 + 1)
    return b"".join(b"layer line %08d\n" % line for line in lines)[:size]


def counter(seed: bytes = b"vector") -> Callable[[int], bytes]:
    """Entropy that is the same every time."""
    calls = iter(range(1 << 30))

    def draw(size: int) -> bytes:
        return hashlib.shake_256(seed + b"%d" % next(calls)).digest(size)

    return draw


def seal(
    plaintext: bytes,
    *,
    key: DataKey = KEY,
    codec: Codec = Codec.NONE,
    seed: bytes = b"vector",
    piece: int = 0,
) -> bytes:
    """Seal a whole blob, fed in pieces of `piece` bytes."""
    sealer = Sealer(key, codec=codec, segment_log2=SEGMENT_LOG2, frame_log2=FRAME_LOG2, entropy=counter(seed))
    piece = piece or max(1, len(plaintext))
    parts = [sealer.head]
    parts += [bytes(sealer.feed(plaintext[at : at + piece])) for at in range(0, len(plaintext), piece)]
    parts.append(sealer.finish(hashlib.sha256(plaintext).digest()))
    assert sealer.container_bytes == sum(map(len, parts))
    return b"".join(parts)


def open_container(container: bytes, digest: Digest, key: DataKey = KEY) -> Container:
    """Open a container."""
    unlocked = Unlocked.unlock(key, container[:HEAD_BYTES])
    return Container(MemoryObjectReader(container), unlocked, digest, Scratch())


def unseal(container: bytes, digest: Digest, key: DataKey = KEY) -> bytes:
    """Open a container and read all of it."""
    opened = open_container(container, digest, key)
    return read(opened, 0, opened.size_bytes)


def read(container: Container, offset: int, length: int) -> bytes:
    """Read one range."""
    buffer = bytearray(length)
    assert container.read_into(offset, memoryview(buffer)) == length
    return bytes(buffer)
