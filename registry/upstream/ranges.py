"""Download of a large blob over several connections, in order (docs/importer.md, "Transfer").

The bytes are hashed and encrypted in order, so one main request always streams the next bytes. Later ranges
are prefetched into memory, within the process' budget. Prefetching is speculative: if a prefetch fails or is
incomplete, the main stream fetches the missing bytes, with all retries. If an upstream does not answer the
main request with exactly its range, the whole blob is requested, and bytes that were already received are
skipped. If the first range arrives so fast that one connection suffices, the rest is one stream. The same
applies if the first range takes long to start: some registries read the whole blob for every request.
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
from registry.upstream.minimum_rate import WINDOW_S, MinimumRate
from registry.upstream.repository import UpstreamRepository

RANGE_BYTES: Final = 4 << 20
MIN_BYTES: Final = 4 * RANGE_BYTES
MAX_REREADS: Final = 8  # of a blob's start, without ranges; later progress does not reset the retry count
QUICK_BYTES_PER_S: Final = 40e6  # three concurrent layers at this rate fill a gigabit link
SLOW_START_S: Final = 1.0


class PrefetchBudget:
    """Memory budget for prefetched ranges, shared by all imports of a process."""

    def __init__(self, size_bytes: int) -> None:
        self._free_bytes = size_bytes

    def take(self, size_bytes: int) -> bool:
        """Reserve memory if it is available; never waits."""
        if size_bytes > self._free_bytes:
            return False
        self._free_bytes -= size_bytes
        return True

    def give_back(self, size_bytes: int) -> None:
        """Release reserved memory."""
        self._free_bytes += size_bytes


async def unpaced(_count: int) -> None:
    """Apply no bandwidth limit."""


@dataclass(frozen=True, slots=True)
class DownloadOptions:
    """Settings for the download of blobs, shared by all imports of a process.

    Attributes:
        memory: Budget for prefetched ranges.
        connections: Maximum number of connections for one blob.
        quick_bytes_per_s: Above this rate, one connection is enough.
        pace: Awaited with the number of received bytes, to limit the bandwidth.
        min_bytes_per_s: Minimum rate of an import; 0 disables it.
        rate_window_s: Time over which the minimum rate is measured.
    """

    memory: PrefetchBudget
    connections: int = 4
    quick_bytes_per_s: float = QUICK_BYTES_PER_S
    pace: Callable[[int], Awaitable[None]] = unpaced
    min_bytes_per_s: int = 0
    rate_window_s: float = WINDOW_S

    def minimum_rate(self, host: str) -> MinimumRate:
        """Create the measurement for one import."""
        return MinimumRate(host, self.min_bytes_per_s, self.rate_window_s)


class _Prefetch:
    """A range that is fetched in advance. The owner creates and cancels its task."""

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
    """The download of one blob from `offset` to its end. Iterate over `chunks` once, and close it.

    Attributes:
        ranged: Some of the bytes came from responses to range requests.
    """

    def __init__(
        self,
        source: UpstreamRepository,
        blob: Descriptor,
        offset: int,
        options: DownloadOptions,
        rate: MinimumRate,
    ) -> None:
        self._source = source
        self._rate = rate
        self._blob = blob
        self._options = options
        self._received = offset
        self._max_connections = options.connections
        self._one_stream = options.connections == 1 or blob.size_bytes - offset < MIN_BYTES
        self._prefetches: deque[_Prefetch] = deque()
        self._prefetching = False
        self._retries = source.retries()
        self._failed_at = offset
        self._rereads = 0
        self._uses_ranges = True
        self._whole_is_offered = False
        self._start_s = 0.0
        self.ranged = False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield exactly as many bytes as the blob's descriptor says, resuming after interruptions.

        The caller must verify the digest.

        Raises:
            AuthenticationFailedError: The registry refused the credentials.
            PullFailedError: The blob does not exist or has another size, no answer came after retries, or the
                upstream is too slow.
        """
        offset, began = self._received, time.monotonic()
        try:
            while self._received < self._blob.size_bytes:
                next_ = self._prefetches[0].start if self._prefetches else self._stream_stop()
                pieces = self._from_prefetch() if next_ == self._received else self._stream(next_)
                async with aclosing(pieces):
                    while chunk := await self._next(pieces):
                        self._received += len(chunk)
                        self._rate.received(len(chunk))
                        yield chunk
                if not self._prefetching and self._suits_one_stream(offset, began):
                    self._one_stream = True
                self._prefetching = True
        finally:
            await self._drop_prefetches()

    async def _next(self, pieces: AsyncGenerator[bytes, None]) -> bytes:
        """Return the next chunk; empty at the end."""
        with self._rate.waiting():
            return await anext(pieces, b"")

    async def _pace(self, count: int) -> None:
        with self._rate.paused():
            await self._options.pace(count)

    def _suits_one_stream(self, offset: int, began: float) -> bool:
        """Return whether the first range, received since `began`, was so quick or so slow to start."""
        took_s = time.monotonic() - began
        is_quick = self._received - offset > self._options.quick_bytes_per_s * took_s
        return is_quick or self._start_s > max(SLOW_START_S, took_s / 2)

    def _stream_stop(self) -> int:
        """Return where the main request ends while there are no prefetches."""
        if self._one_stream:
            return self._blob.size_bytes
        return min(self._received + RANGE_BYTES, self._blob.size_bytes)

    async def _stream(self, stop: int) -> AsyncGenerator[bytes, None]:
        """Stream up to `stop`, or to the end if the upstream does not support ranges."""
        while self._received < stop:
            before, asked = self._received, time.monotonic()
            try:
                async with self._source.piece(self._blob, before, stop) as piece:
                    self._start_s = time.monotonic() - asked
                    if (piece.start, piece.stop) == (before, stop):
                        self.ranged |= stop - before < self._blob.size_bytes
                        if self._prefetching:
                            self._start_prefetches(stop)
                    else:
                        self._rereads += before > 0
                        await self._stop_ranges()
                    skip = before - piece.start
                    async for chunk in piece.chunks:
                        await self._pace(len(chunk))
                        if data := chunk[skip:]:
                            yield data
                        skip = max(0, skip - len(chunk))
            except RangeRefusedError:
                await self._stop_ranges()
            except UpstreamUnavailableError as error:
                await self._wait(error, ranged=stop - before < self._blob.size_bytes)

    async def _from_prefetch(self) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of the next prefetch; the main stream fetches missing ones."""
        piece = self._prefetches.popleft()
        self.ranged = True
        try:
            self._start_prefetches(piece.stop)
            while chunk := await piece.next():
                yield chunk
            if piece.failed:
                self._max_connections = max(1, self._max_connections // 2)
        finally:
            await self._drop(piece)

    def _start_prefetches(self, start: int) -> None:
        """Start prefetches from `start`, or after the running ones, as connections and memory allow."""
        start = self._prefetches[-1].stop if self._prefetches else start
        while start < self._blob.size_bytes and len(self._prefetches) + 1 < self._max_connections:
            if not self._options.memory.take(RANGE_BYTES):
                return
            piece = _Prefetch(start, min(start + RANGE_BYTES, self._blob.size_bytes))
            piece.task = asyncio.create_task(self._fetch(piece), name=f"range {start}")
            self._prefetches.append(piece)
            start = piece.stop

    async def _fetch(self, prefetch: _Prefetch) -> None:
        missing = prefetch.stop - prefetch.start
        try:
            async with self._source.piece(self._blob, prefetch.start, prefetch.stop) as piece:
                if (piece.start, piece.stop) == (prefetch.start, prefetch.stop):
                    async for chunk in piece.chunks:
                        missing -= len(chunk)
                        prefetch.put(chunk)
                        await self._pace(len(chunk))
        except ImportFailedError:
            pass  # the main stream will encounter and report the problem
        finally:
            prefetch.end(failed=missing > 0)

    async def _wait(self, error: UpstreamUnavailableError, *, ranged: bool) -> None:
        """Wait before the main stream retries, with half the connections in case of an overloaded upstream.

        If a range fails although the upstream offers the whole blob at the same time, it fails because of
        ranges, and not because the upstream is down.
        """
        self._max_connections = max(1, self._max_connections // 2)
        backoff = self._source.backoff
        if tasks := [piece.task for piece in self._prefetches if piece.task is not None]:
            await asyncio.wait(tasks, timeout=backoff.cap_s)
        if self._received - self._failed_at >= backoff.progress_bytes and self._rereads < MAX_REREADS:
            self._retries.restart()
            self._whole_is_offered = False
        self._failed_at = self._received
        if self._whole_is_offered:
            await self._stop_ranges()
        await self._retries.wait(error)
        if ranged and self._uses_ranges and self._retries.failed == backoff.attempts - 2:
            self._whole_is_offered = await self._offers_whole()

    async def _offers_whole(self) -> bool:
        """Return whether the upstream answers a request for the whole blob now."""
        try:
            async with self._source.piece(self._blob, 0, self._blob.size_bytes):
                return True
        except ImportFailedError:
            return False

    async def _stop_ranges(self) -> None:
        """Request the whole blob from now on, and skip the bytes that were already received."""
        self._source.disable_ranges(self._blob)
        self._one_stream = True
        self._uses_ranges = self._whole_is_offered = False
        await self._drop_prefetches()

    async def _drop_prefetches(self) -> None:
        await self._drop(*self._prefetches)
        self._prefetches.clear()

    async def _drop(self, *pieces: _Prefetch) -> None:
        tasks = [piece.task for piece in pieces if piece.task is not None]
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self._options.memory.give_back(RANGE_BYTES * len(pieces))
