"""Damage to stored bytes, for tests of the container formats."""

from random import Random

from tests.support.containers import SEGMENT_LOG2

SEGMENT = 1 << SEGMENT_LOG2


def flip(data: bytes, at: int, mask: int = 0x01) -> bytes:
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


def random_damage(good: bytes, chance: Random) -> bytes:
    """Flip some bytes, cut a piece out, put one in, copy one over another, or set one to zero."""
    at, size = chance.randrange(len(good)), chance.choice([1, 4, 16, 96, 4096, SEGMENT])
    kind = chance.randrange(5)
    if kind == 0:
        for _ in range(chance.randint(1, 8)):
            good = flip(good, chance.randrange(len(good)), chance.randint(1, 255))
        return good
    if kind == 1:
        return good[:at] + good[at + size :]
    if kind == 2:
        return good[:at] + chance.randbytes(size) + good[at:]
    other = chance.randrange(len(good))
    piece = good[other : other + size] if kind == 3 else bytes(size)
    return (good[:at] + piece + good[at + len(piece) :])[: len(good)]
