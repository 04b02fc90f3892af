"""Buffers and types that the container formats share."""

import threading
from collections.abc import Callable

from storage.errors import BlobDamagedError
from storage.ports import ObjectReader

Data = bytes | bytearray | memoryview
Entropy = Callable[[int], bytes]
RUN_BYTES = 1 << 20


class Scratch(threading.local):
    """Per-thread buffers for ciphertext, so that a read allocates only its result."""

    def __init__(self) -> None:
        self._buffers: dict[str, memoryview] = {}

    def view(self, purpose: str, size: int) -> memoryview:
        """Return `size` uninitialized bytes, valid until this thread's next call with the same `purpose`."""
        buffer = self._buffers.get(purpose)
        if buffer is None or len(buffer) < size:
            buffer = self._buffers[purpose] = memoryview(bytearray(size))
        return buffer[:size]


def read_exactly(source: ObjectReader, offset: int, size: int) -> bytes:
    """Read `size` bytes. Raises BlobDamagedError: there are fewer."""
    buffer = bytearray(size)
    if offset < 0 or source.read_into(offset, memoryview(buffer)) != size:
        raise BlobDamagedError("the container is shorter than its parts")
    return bytes(buffer)
