"""An honest client beside an attack: how long its requests take, one after the other."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import quantiles

import psutil

MIB = 1 << 20
MOST_MEMORY_BYTES = 512 * MIB
LEAST_S = 0.05
"""Smallest p99 that counts: below it, a shared machine's noise is larger than what is measured."""


@dataclass
class Observed:
    """What happened while a block ran."""

    latencies_s: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    failures: list[Exception] = field(default_factory=list)

    @property
    def p99_s(self) -> float:
        return quantiles(self.latencies_s, n=100)[98]


class HonestClient:
    """Repeats one request, and watches the memory of the server's process.

    Args:
        act: The request; raises if it fails.
        pid: Process of the server.
    """

    def __init__(self, act: Callable[[], object], pid: int) -> None:
        self._act = act
        self._process = psutil.Process(pid)

    @contextmanager
    def observed(self) -> Iterator[Observed]:
        """Observe while the block runs."""
        found, stop = Observed(), threading.Event()

        def run() -> None:
            while not stop.is_set():
                began = time.perf_counter()
                try:
                    self._act()
                except Exception as error:  # noqa: BLE001 (an honest client must not fail at all)
                    found.failures.append(error)
                found.latencies_s.append(time.perf_counter() - began)
                found.peak_bytes = max(found.peak_bytes, self._process.memory_info().rss)
                stop.wait(0.01)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield found
        finally:
            stop.set()
            thread.join()

    def bears(self, attacked: Observed, alone: Observed) -> None:
        """Assert that an attack did not matter."""
        print(  # noqa: T201 (the figures of the run, with pytest -s)
            f"p99 {alone.p99_s * 1000:.1f} ms alone, {attacked.p99_s * 1000:.1f} ms attacked;"
            f" {len(attacked.latencies_s)} requests, {len(attacked.failures)} failed;"
            f" {alone.peak_bytes / MIB:.0f} MiB alone, {attacked.peak_bytes / MIB:.0f} MiB attacked"
        )
        assert not attacked.failures
        assert attacked.p99_s <= 3 * max(alone.p99_s, LEAST_S)
        assert attacked.peak_bytes <= MOST_MEMORY_BYTES
