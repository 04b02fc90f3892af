"""A large blob over several connections, in order (docs/importer.md, "Transfer").

The bytes are hashed and sealed in their order, so one request is always at the front and streams. Ranges
behind it are fetched ahead into memory, as far as the process' memory for that reaches. A range ahead is a
bet: when it fails, or brings less, the front fetches what is missing, with all retries. An upstream that does
not answer the front's range with exactly that range is asked for the whole blob, and what is there already is
skipped. One whose first range came so quickly that the connection is not what is slow is read as one stream.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from registry.errors import ImportFailedError, RangeRefusedError, UpstreamUnavailableError
from registry.oci.documents import Descriptor
from registry.upstream.repository import UpstreamRepository

RANGE_BYTES: Final = 4 << 20
MIN_BYTES: Final = 4 * RANGE_BYTES
MAX_REREADS: Final = 8  # of a blob's beginning, without ranges; after these, progress earns no more tries
QUICK_BYTES_PER_S: Final = 40e6  # three layers at a time fill a gigabit line with it


class PrefetchBudget:
    """What may be fetched ahead, over all imports of a process."""

    def __init__(self, size_bytes: int) -> None:
        self._free_bytes = size_bytes

    def take(self, size_bytes: int) -> bool:
        """Take some, if there is so much; never waits."""
        if size_bytes > self._free_bytes:
            return False
        self._free_bytes -= size_bytes
        return True

    def give_back(self, size_bytes: int) -> None:
        """Give back what was taken."""
        self._free_bytes += size_bytes


async def unpaced(_count: int) -> None:
    """Let everything through."""


@dataclass(frozen=True, slots=True)
class DownloadOptions:
    """How blobs are fetched: shared by all imports of a process.

    Attributes:
        memory: For ranges ahead.
        connections: To one upstream, for one blob.
        quick_bytes_per_s: A connection that brings so much is left alone: more would only cost.
        pace: Awaited with the number of bytes that arrived; for a limit on bandwidth.
    """

    memory: PrefetchBudget
    connections: int = 4
    quick_bytes_per_s: float = QUICK_BYTES_PER_S
    pace: Callable[[int], Awaitable[None]] = unpaced


class _Prefetch:
    """A range that is fetched before it is wanted; its task is its owner's."""

    def __init__(self, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop
        self.failed = False
        self.task: asyncio.Task[None] | None = None
        self._chunks: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._ended = False

    def put(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._changed.set()

    def end(self, *, failed: bool) -> None:
        self.failed, self._ended = failed, True
        self._changed.set()

    async def next(self) -> bytes:
        """Return the next chunk; empty at the end."""
        while not self._chunks:
            if self._ended:
                return b""
            self._changed.clear()
            await self._changed.wait()
        return self._chunks.popleft()


class Download:
    """One blob on its way, from `offset` to its end. Iterate over `chunks` once, and close it.

    Attributes:
        ranged: Some of what came was an answer to a range.
    """

    def __init__(
        self, source: UpstreamRepository, blob: Descriptor, offset: int, lines: DownloadOptions
    ) -> None:
        self._source = source
        self._blob = blob
        self._lines = lines
        self._received = offset
        self._width = lines.connections
        self._one_stream = lines.connections == 1 or blob.size_bytes - offset < MIN_BYTES
        self._ahead: deque[_Prefetch] = deque()
        self._betting = False
        self._failed = self._failed_at = 0
        self._rereads = 0
        self.ranged = False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the blob's bytes, exactly as many as its descriptor says, going on after every cut.

        The digest is the caller's to verify.

        Raises:
            AuthenticationFailedError: The credentials are refused.
            PullFailedError: Not there, of another size, or no answer after retries.
        """
        offset, began = self._received, time.monotonic()
        try:
            while self._received < self._blob.size_bytes:
                next_ = self._ahead[0].start if self._ahead else self._front_stop()
                pieces = self._from_ahead() if next_ == self._received else self._front(next_)
                async with aclosing(pieces):
                    async for chunk in pieces:
                        self._received += len(chunk)
                        yield chunk
                if not self._betting and self._is_quick(offset, began):
                    self._one_stream = True
                self._betting = True
        finally:
            await self._drop_ahead()

    def _is_quick(self, offset: int, began: float) -> bool:
        """Tell whether what came since `offset` and `began` came so quickly that one connection is enough."""
        took_s = time.monotonic() - began
        return self._received - offset > self._lines.quick_bytes_per_s * took_s

    def _front_stop(self) -> int:
        """Return up to where the front streams while nothing is ahead of it."""
        if self._one_stream:
            return self._blob.size_bytes
        return min(self._received + RANGE_BYTES, self._blob.size_bytes)

    async def _front(self, stop: int) -> AsyncGenerator[bytes, None]:
        """Stream up to `stop`, or up to the end where ranges are not given."""
        while self._received < stop:
            before = self._received
            try:
                async with self._source.piece(self._blob, before, stop) as piece:
                    if (piece.start, piece.stop) == (before, stop):
                        self.ranged |= stop - before < self._blob.size_bytes
                        if self._betting:
                            self._look_ahead(stop)
                    else:
                        self._rereads += before > 0
                        await self._stop_ranges()
                    skip = before - piece.start
                    async for chunk in piece.chunks:
                        await self._lines.pace(len(chunk))
                        if data := chunk[skip:]:
                            yield data
                        skip = max(0, skip - len(chunk))
            except RangeRefusedError:
                await self._stop_ranges()
            except UpstreamUnavailableError as error:
                await self._wait(error)

    async def _from_ahead(self) -> AsyncGenerator[bytes, None]:
        """Yield what the next range ahead has; what it lacks is the front's to fetch."""
        piece = self._ahead.popleft()
        self.ranged = True
        try:
            self._look_ahead(piece.stop)
            while chunk := await piece.next():
                yield chunk
            if piece.failed:
                self._width = max(1, self._width // 2)
        finally:
            await self._drop(piece)

    def _look_ahead(self, start: int) -> None:
        """Start ranges from `start` on, or behind those that are running, as width and memory allow."""
        start = self._ahead[-1].stop if self._ahead else start
        while start < self._blob.size_bytes and len(self._ahead) + 1 < self._width:
            if not self._lines.memory.take(RANGE_BYTES):
                return
            piece = _Prefetch(start, min(start + RANGE_BYTES, self._blob.size_bytes))
            piece.task = asyncio.create_task(self._fetch(piece), name=f"range {start}")
            self._ahead.append(piece)
            start = piece.stop

    async def _fetch(self, ahead: _Prefetch) -> None:
        missing = ahead.stop - ahead.start
        try:
            async with self._source.piece(self._blob, ahead.start, ahead.stop) as piece:
                if (piece.start, piece.stop) == (ahead.start, ahead.stop):
                    async for chunk in piece.chunks:
                        missing -= len(chunk)
                        ahead.put(chunk)
                        await self._lines.pace(len(chunk))
        except ImportFailedError:
            pass  # the front will meet with it too, and say so
        finally:
            ahead.end(failed=missing > 0)

    async def _wait(self, error: UpstreamUnavailableError) -> None:
        """Wait before the front tries again, and ask for less at a time: it may have been too much.

        The last try in a row is one without a range, in case that is what the upstream breaks at.
        """
        self._width = max(1, self._width // 2)
        backoff = self._source.backoff
        if tasks := [piece.task for piece in self._ahead if piece.task is not None]:
            await asyncio.wait(tasks, timeout=backoff.cap_s)
        progress = self._received - self._failed_at >= backoff.progress_bytes and self._rereads < MAX_REREADS
        self._failed, self._failed_at = 1 if progress else self._failed + 1, self._received
        await backoff.wait(self._failed, error)
        if self._failed == backoff.attempts - 1:
            await self._stop_ranges()

    async def _stop_ranges(self) -> None:
        """Fetch the whole blob from now on, and skip what is there already."""
        self._source.disable_ranges(self._blob)
        self._one_stream = True
        await self._drop_ahead()

    async def _drop_ahead(self) -> None:
        await self._drop(*self._ahead)
        self._ahead.clear()

    async def _drop(self, *pieces: _Prefetch) -> None:
        tasks = [piece.task for piece in pieces if piece.task is not None]
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self._lines.memory.give_back(RANGE_BYTES * len(pieces))
