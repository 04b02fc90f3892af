"""What an import did, collected from its progress."""

import time
from collections.abc import Callable
from typing import Final

from registry.model.imports import ImportReport, Progress, Stage

_MAX_SENTENCE: Final = 300


class ImportLog:
    """Measures the stages of one import and counts its waits.

    Args:
        attempt: `ImportJob.attempt`.
        now: Monotonic time in seconds.
    """

    def __init__(self, attempt: int = 1, now: Callable[[], float] = time.monotonic) -> None:
        self._attempt = attempt
        self._now = now
        self._began = now()
        self._stages: dict[Stage, float] = {}
        self._latest: Progress | None = None
        self._layers = self._bytes = 0
        self._retries = 0
        self._last_retry = ""

    def follow(self, progress: Progress) -> None:
        """Take note of a progress report."""
        before = self._latest
        if before is not None and before.stage is not progress.stage:
            self._end_stage(before.stage)
        if progress.retry and (before is None or before.retry != progress.retry):
            self._retries += 1
            self._last_retry = progress.retry[:_MAX_SENTENCE]
        self._latest = progress
        self._layers = progress.layers_total or self._layers
        self._bytes = progress.bytes_total or self._bytes

    def report(self) -> ImportReport:
        """Return what the import did until now. Ends its last stage."""
        latest = self._latest or Progress(Stage.PULLING)
        self._end_stage(latest.stage)
        return ImportReport(
            dict(self._stages),
            layers=self._layers,
            size_bytes=self._bytes,
            retries=self._retries,
            last_retry=self._last_retry,
            attempt=self._attempt,
        )

    def _end_stage(self, stage: Stage) -> None:
        now = self._now()
        self._stages[stage] = self._stages.get(stage, 0.0) + now - self._began
        self._began = now
