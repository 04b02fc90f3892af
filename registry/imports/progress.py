"""Progress of an import: bytes received, layers done and transfer rate."""

import time
from collections.abc import Callable
from typing import Final

from registry.errors import UpstreamUnavailableError
from registry.imports.plan import Plan
from registry.model.imports import Progress, Stage

_WINDOW_S: Final = 1.0
_WEIGHT: Final = 0.3


class Speed:
    """Transfer rate of the last seconds, exponentially smoothed."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._since = now()
        self._count = 0
        self._per_s: float | None = None

    def add(self, count: int) -> None:
        """Count received bytes."""
        self._count += count

    @property
    def bytes_per_s(self) -> int:
        """The rate; 0 until the first window (`_WINDOW_S`) has passed."""
        passed = self._now() - self._since
        if passed >= _WINDOW_S:
            latest = self._count / passed
            # A long window has the weight of the regular windows that fit into it.
            weight = 1 - (1 - _WEIGHT) ** (passed / _WINDOW_S)
            self._per_s = latest if self._per_s is None else self._per_s + weight * (latest - self._per_s)
            self._since, self._count = self._now(), 0
        return round(self._per_s or 0)


class TransferProgress:
    """Counts the transferred bytes and layers of one import, and reports its progress.

    Attributes:
        fetched_bytes: Bytes received from the network, including repetitions.
        resumed_bytes: Bytes of incomplete layers that an earlier run had stored.
        found_bytes: Bytes of layers that the organization already had.
    """

    def __init__(
        self, plan: Plan, report: Callable[[Progress], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._report = report
        self._layers_total = len(plan.layers)
        self._bytes_total = sum(layer.size_bytes for layer in plan.layers)
        self._layers_done = self._bytes_done = 0
        self.fetched_bytes = self.resumed_bytes = self.found_bytes = 0
        self._now, self._began = now, now()
        self._speed = Speed(now)
        self.enter(Stage.PULLING)

    def fetched(self, count: int) -> None:
        """Count bytes received from the network."""
        self.fetched_bytes += count
        self._speed.add(count)
        self._add(count)

    def resumed(self, count: int) -> None:
        """Count bytes that an earlier run had stored."""
        self.resumed_bytes += count
        self._add(count)

    def found(self, count: int) -> None:
        """Count the bytes of a layer that is already stored."""
        self.found_bytes += count
        self._add(count)

    def take_back(self, count: int) -> None:
        """Subtract bytes that were counted but must be fetched again."""
        self._add(-count)

    def layer_done(self) -> None:
        """Count a completed layer."""
        self._layers_done += 1
        self.enter(Stage.PULLING)

    def follow(self, progress: Progress) -> None:
        """Report the progress of a stage that runs beside the transfer, once all layers are transferred."""
        if self._layers_done == self._layers_total:
            self._report(progress)

    def enter(self, stage: Stage) -> None:
        """Report the current stage with the current figures."""
        self._report(self._current(stage))

    def wait(self, error: UpstreamUnavailableError) -> None:
        """Report that the transfer waits, because the registry does not answer."""
        self._report(self._current(Stage.PULLING).waiting(error.sentence))

    def _current(self, stage: Stage) -> Progress:
        return Progress(
            stage,
            self._layers_done,
            self._layers_total,
            self._bytes_done,
            self._bytes_total,
            self._speed.bytes_per_s if stage is Stage.PULLING else 0,
        )

    def figures(self) -> dict[str, float]:
        """Return the byte counts by origin and the duration, for the log."""
        return {
            "fetched_bytes": self.fetched_bytes,
            "resumed_bytes": self.resumed_bytes,
            "found_bytes": self.found_bytes,
            "duration_s": round(self.duration_s, 3),
        }

    @property
    def duration_s(self) -> float:
        """Time since this object was created, shortly before the first layer is fetched."""
        return self._now() - self._began

    def _add(self, count: int) -> None:
        self._bytes_done += count
        self.enter(Stage.PULLING)
