"""An import's stages as spans, told apart by its own progress."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from registry.model.imports import Progress, Stage
from registry.tracing import Span


class Stages:
    """Passes progress on, and keeps a span for the stage that runs.

    Args:
        within: The import's span.
        report: Who else hears of progress.
    """

    def __init__(self, within: Span, report: Callable[[Progress], None]) -> None:
        self._within = within
        self._report = report
        self._stage: Stage | None = None
        self._span: Span | None = None

    def __call__(self, progress: Progress) -> None:
        """Hear of progress; in the event loop, in any task of the import."""
        if progress.stage is not self._stage:
            self._end()
            self._stage = progress.stage
            self._span = self._within.begin(f"import {progress.stage.value}")
        self._report(progress)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._span is not None:
            self._span.fail(kind.__qualname__)
        self._end()

    def _end(self) -> None:
        if self._span is not None:
            self._span.end()
            self._span = None
