"""Folder of the proxy: ciphertext of layers, in chunks, which is useless without the node's keys.

```
<folder>/                          0700
  lock                             held by the running proxy
  layers/<hex of the ciphertext's sha256>/
    <offset, 12 hex digits>        chunk; its size says how much of it has arrived
    served                         the layer was served completely
```

The least recently used layers make room for new ones. A layer's whole size is reserved before its first byte
is written, so the folder never exceeds its limit.
"""

import asyncio
import fcntl
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from registry.errors import CacheTooSmallError, ConfigError
from storage.digest import Digest

CHUNK_BYTES: Final = 16 << 20

_NAME = re.compile(r"[0-9a-f]{64}(?:[0-9a-f]{64})?")
_SERVED = "served"


@dataclass(frozen=True, slots=True)
class CachedLayer:
    """One layer in the folder. Its methods block."""

    folder: Path
    size_bytes: int

    def chunk_size(self, offset: int) -> int:
        """Return the size of the chunk that begins at an offset."""
        return min(CHUNK_BYTES, self.size_bytes - offset)

    def received(self, offset: int) -> int:
        """Return how many bytes of a chunk have arrived."""
        try:
            return min((self._chunk(offset)).stat().st_size, self.chunk_size(offset))
        except FileNotFoundError:
            return 0

    def write(self, offset: int, at: int, data: bytes) -> None:
        """Write bytes of the chunk that begins at `offset`, `at` bytes after its beginning."""
        with os.fdopen(os.open(self._chunk(offset), os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.seek(at)
            file.write(data)

    def read(self, start: int, length: int) -> bytes:
        """Return at most `length` bytes from `start`, all of one chunk."""
        at = start % CHUNK_BYTES
        with self._chunk(start - at).open("rb", buffering=0) as file:
            file.seek(at)
            return file.read(min(length, CHUNK_BYTES - at)) or b""

    def discard(self) -> None:
        """Remove all bytes."""
        for path in self.folder.iterdir():
            path.unlink(missing_ok=True)

    def mark_served(self) -> None:
        """Record that a client got the whole layer."""
        with suppress(FileNotFoundError):
            (self.folder / _SERVED).touch()

    def _chunk(self, offset: int) -> Path:
        return self.folder / f"{offset:012x}"


class LayerCache:
    """The folder, and what may be in it.

    Args:
        folder: Created if missing.
        limit_bytes: Maximum size of all layers.

    Raises:
        ConfigError: Another proxy uses the folder, or it cannot be written.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._layers = folder / "layers"
        self._active: dict[str, int] = {}
        self._released = asyncio.Condition()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._layers.mkdir(mode=0o700, exist_ok=True)
            self._lock = (folder / "lock").open("wb")
        except OSError as error:
            raise ConfigError(f"{folder} cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise ConfigError(f"another proxy uses {folder}: set another folder with --cache") from None

    def close(self) -> None:
        """Leave the folder to another proxy."""
        self._lock.close()

    def was_served(self, digest: Digest) -> bool:
        """Return whether a client got this layer before, as far as the folder knows. Blocks."""
        return (self._layers / digest.hex / _SERVED).exists()

    @asynccontextmanager
    async def reserve(self, digest: Digest, size_bytes: int) -> AsyncIterator[CachedLayer]:
        """Reserve space for a layer, while its bytes are needed. Waits until other layers are not needed.

        Only one task may reserve a layer at a time.

        Raises:
            CacheTooSmallError: The layer is larger than the limit.
            OSError: The folder cannot be written.
        """
        if size_bytes > self._limit_bytes:
            raise CacheTooSmallError(
                f"The layer {digest} has {size_bytes} bytes, and the proxy's cache may have "
                f"{self._limit_bytes}. Start the proxy with a larger --cache-size."
            )
        async with self._released:
            await self._released.wait_for(
                lambda: sum(self._active.values()) + size_bytes <= self._limit_bytes
            )
            self._active[digest.hex] = size_bytes
        try:
            room = self._limit_bytes - sum(self._active.values())
            yield await asyncio.to_thread(self._prepare, digest.hex, size_bytes, room, set(self._active))
        finally:
            async with self._released:
                del self._active[digest.hex]
                self._released.notify_all()

    def _prepare(self, name: str, size_bytes: int, room_bytes: int, active: set[str]) -> CachedLayer:
        """Create a layer's folder, and remove the least recently used layers beyond `room_bytes`."""
        idle: list[tuple[float, int, Path]] = []
        for path in self._layers.iterdir():
            if path.name not in active:
                known = _NAME.fullmatch(path.name) is not None
                idle.append((path.stat().st_mtime if known else 0, _size_bytes(path), path))
        used = sum(size for _, size, _ in idle)
        for _, size, path in sorted(idle):
            if used <= room_bytes:
                break
            shutil.rmtree(path)
            used -= size
        folder = self._layers / name
        folder.mkdir(mode=0o700, exist_ok=True)
        os.utime(folder)
        return CachedLayer(folder, size_bytes)


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
