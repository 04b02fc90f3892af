"""Buffers for plaintext on its way out, used again once nobody holds a view of them any more."""

from collections import deque

_TRIES = 4


class BufferPool:
    """Keeps some buffers of one size. For one thread: the event loop's.

    A socket may hold on to a chunk long after it was written. That is not guessed at: a `bytearray` cannot be
    resized while anything holds a view of it, and such a buffer waits in the pool until it can.

    Args:
        size_bytes: Of each buffer; larger requests get one of their own.
        capacity: Buffers to keep.
    """

    def __init__(self, size_bytes: int, capacity: int = 32) -> None:
        self._size_bytes = size_bytes
        self._capacity = capacity
        self._spare: deque[bytearray] = deque()

    def take(self, length: int) -> bytearray:
        """Return a buffer of at least `length` bytes of rubbish."""
        if length > self._size_bytes:
            return bytearray(length)
        for _ in range(min(_TRIES, len(self._spare))):
            buffer = self._spare.popleft()
            if _is_free(buffer):
                return buffer
            self._spare.append(buffer)
        return bytearray(self._size_bytes)

    def give_back(self, buffer: bytearray) -> None:
        """Keep a buffer for another time; views of it may still be held."""
        if len(buffer) == self._size_bytes and len(self._spare) < self._capacity:
            self._spare.append(buffer)


def _is_free(buffer: bytearray) -> bool:
    try:
        last = buffer.pop()  # a resize, which CPython refuses while there are views
    except BufferError:
        return False
    buffer.append(last)
    return True
