"""Pool of plaintext buffers, which are reused when no views of them are left."""

from collections import deque

_TRIES = 4


class BufferPool:
    """Pool of buffers of one size. For the event loop's thread only.

    A socket may keep a chunk long after the write returned. A `bytearray` cannot be resized while a view of
    it exists, so a failed resize shows that a buffer is still in use; it then stays in the pool.

    Args:
        size_bytes: Size of each buffer. Larger requests get a separate buffer.
        capacity: Maximum number of buffers in the pool.
    """

    def __init__(self, size_bytes: int, capacity: int = 32) -> None:
        self._size_bytes = size_bytes
        self._capacity = capacity
        self._spare: deque[bytearray] = deque()

    def take(self, length: int) -> bytearray:
        """Return an uninitialized buffer of at least `length` bytes."""
        if length > self._size_bytes:
            return bytearray(length)
        for _ in range(min(_TRIES, len(self._spare))):
            buffer = self._spare.popleft()
            if _is_free(buffer):
                return buffer
            self._spare.append(buffer)
        return bytearray(self._size_bytes)

    def give_back(self, buffer: bytearray) -> None:
        """Return a buffer to the pool. Views of it may still exist."""
        if len(buffer) == self._size_bytes and len(self._spare) < self._capacity:
            self._spare.append(buffer)


def _is_free(buffer: bytearray) -> bool:
    try:
        last = buffer.pop()  # a resize, which CPython refuses while views exist
    except BufferError:
        return False
    buffer.append(last)
    return True
