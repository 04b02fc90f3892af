"""Sample the resident memory of a process tree and record the peaks of each phase."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil

INTERVAL_S = 0.05
MIB = 1 << 20


@dataclass
class Phase:
    """Figures of one phase: peaks in bytes by process; `total` is the peak of their sum."""

    name: str
    duration_s: float = 0.0
    samples: int = 0
    peaks: dict[str, int] = field(default_factory=dict)

    def note(self, resident: dict[str, int]) -> None:
        self.samples += 1
        for name, size_bytes in {**resident, "total": sum(resident.values())}.items():
            self.peaks[name] = max(self.peaks.get(name, 0), size_bytes)

    def as_json(self) -> dict[str, object]:
        peaks = {name: round(peak / MIB, 1) for name, peak in sorted(self.peaks.items())}
        return {"duration_s": round(self.duration_s, 2), "samples": self.samples, "peak_rss_mib": peaks}


class TreeSampler:
    """Watches `pid` and its descendants: `server`, `ledger` (the Redis-protocol child), `worker-N`,
    `statement-N`.
    """

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)

    @contextmanager
    def phase(self, name: str) -> Iterator[Phase]:
        """Sample the memory while the block runs."""
        phase, done = Phase(name), threading.Event()
        thread = threading.Thread(target=self._watch, args=(phase, done))
        began = time.monotonic()
        thread.start()
        try:
            yield phase
        finally:
            phase.duration_s = time.monotonic() - began
            done.set()
            thread.join()

    def _watch(self, phase: Phase, done: threading.Event) -> None:
        while not done.wait(INTERVAL_S):
            phase.note(self._resident())

    def _resident(self) -> dict[str, int]:
        resident = {"server": self._root.memory_info().rss}
        seen: Counter[str] = Counter()
        for child in self._root.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                kind = _kind(child)
                seen[kind] += 1
                name = kind if kind == "ledger" else f"{kind}-{seen[kind]}"
                resident[name] = child.memory_info().rss
        return resident


def _kind(child: psutil.Process) -> str:
    if any(word in child.name() for word in ("redis", "valkey")):
        return "ledger"
    return "worker"
