"""An import's stages as spans, told apart by its own progress."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from opentelemetry.trace import Span

from registry import tracing
from registry.model.imports import Progress, Stage


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
            self._span = tracing.begin(f"import {progress.stage.value}", self._within)
        self._report(progress)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._span is not None:
            tracing.fail(self._span, kind.__qualname__)
        self._end()

    def _end(self) -> None:
        if self._span is not None:
            self._span.end()
            self._span = None
