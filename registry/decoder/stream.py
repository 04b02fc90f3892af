"""Decrypts a layer as it streams, in bounded memory.

A second thread computes the HMAC. The last piece is written only after the HMAC was verified, so that a
reader never gets the whole of a damaged layer: containerd can miss the exit status of a processor.
"""

import fcntl
import hmac
import os
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

from registry.decoder.keys import LayerKey

PIECE_BYTES: Final = 1 << 20

_BUFFERS = 3  # one is read into, one is hashed, one waits
_BLOCK_BYTES = 16
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ of Linux


def widen_pipe(fd: int) -> None:
    """Let a pipe take a whole piece, for fewer system calls; a file or a small limit stays as it is."""
    with suppress(OSError):
        fcntl.fcntl(fd, _SET_PIPE_SIZE, PIECE_BYTES)


def read_piece(fd: int, buffer: bytearray) -> memoryview:
    """Read until a buffer is full or the input ends; returns what was read."""
    view, size = memoryview(buffer), 0
    while size < len(buffer):
        count = os.readv(fd, [view[size:]])
        if not count:
            break
        size += count
    return view[:size]


def decrypt_stream(first: memoryview, stdin: int, stdout: int, key: LayerKey, mac: bytes) -> bool:
    """Decrypt a layer with AES-256-CTR; returns whether its HMAC is right.

    Args:
        first: First piece, which was read already.
        stdin: File descriptor with the rest.
        stdout: File descriptor for the plaintext. It never gets the last piece of a damaged layer.
        key: Key of the layer.
        mac: HMAC-SHA256 of the ciphertext.
    """
    hasher = _MacThread(key.symkey)
    decryptor = Cipher(AES256(key.symkey), CTR(key.nonce)).decryptor()
    outputs = [bytearray(PIECE_BYTES + _BLOCK_BYTES) for _ in range(2)]
    piece, held = first, memoryview(b"")
    while piece:
        hasher.update(piece)
        size = decryptor.update_into(piece, outputs[0])
        _write(stdout, held)
        held = memoryview(outputs[0])[:size]
        outputs.reverse()
        piece = read_piece(stdin, hasher.buffer())
    if not hmac.compare_digest(hasher.digest(), mac):
        return False
    _write(stdout, held)
    return True


class _MacThread:
    """HMAC-SHA256 in a thread of its own, and the buffers whose pieces it has hashed."""

    def __init__(self, key: bytes) -> None:
        self._mac = hmac.new(key, digestmod="sha256")
        self._pieces: SimpleQueue[memoryview | None] = SimpleQueue()
        self._free: SimpleQueue[bytearray] = SimpleQueue()
        for _ in range(_BUFFERS):
            self._free.put(bytearray(PIECE_BYTES))
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def buffer(self) -> bytearray:
        """Return a buffer for the next piece, when there is one."""
        return self._free.get()

    def update(self, piece: memoryview) -> None:
        """Hash a piece. Its buffer must not be changed before `buffer` returns it."""
        self._pieces.put(piece)

    def digest(self) -> bytes:
        """Return the HMAC of all pieces."""
        self._pieces.put(None)
        self._thread.join()
        return self._mac.digest()

    def _run(self) -> None:
        while (piece := self._pieces.get()) is not None:
            self._mac.update(piece)
            if isinstance(piece.obj, bytearray):
                self._free.put(piece.obj)


def _write(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]
