"""Trace spans of the stages of an import, derived from its progress reports."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from opentelemetry.trace import Span

from registry import tracing
from registry.model.imports import Progress, Stage


class Stages:
    """Forwards progress reports, and keeps a span open for the current stage.

    Args:
        within: The import's span.
        report: Receives the forwarded reports.
    """

    def __init__(self, within: Span, report: Callable[[Progress], None]) -> None:
        self._within = within
        self._report = report
        self._stage: Stage | None = None
        self._span: Span | None = None

    def __call__(self, progress: Progress) -> None:
        """Process a progress report. Called in the event loop, from any task of the import."""
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
