"""What the command line prints: tables and bars for people, JSON for programs, errors with a next step."""

import json
import sys
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, Protocol

import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from registry.cli.client import ServerRefusedError
from registry.errors import RegistryError

_LINE_S = 2.0
_out = Console()
_err = Console(stderr=True)


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a command; turn what goes wrong on purpose into one line and exit code 1."""
    try:
        uvloop.run(work)
    except RegistryError as error:
        fail(error)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def fail(error: Exception) -> NoReturn:
    """Say what went wrong on standard error, and exit with code 1."""
    sys.stderr.write(f"crisper: {error}\n")
    if isinstance(error, ServerRefusedError):
        for field, reasons in error.fields.items():
            sys.stderr.write(f"  {field}: {'; '.join(map(str, reasons))}\n")
    raise typer.Exit(1)


def show(document: object, *, as_json: bool, rows: Sequence[tuple[str, object]] = ()) -> None:
    """Print a document whole as JSON, or the rows chosen from it for a person."""
    if as_json:
        print(json.dumps(document, indent=2))
        return
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        print(f"{name:<{width}}  {'-' if value is None else value}")


def table(
    documents: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, as_json: bool, empty: str
) -> None:
    """Print many documents: JSON, or one line each.

    Args:
        columns: Heading to dotted path within a document.
        empty: What to say when there are none.
    """
    if as_json:
        print(json.dumps(list(documents), indent=2))
        return
    if not documents:
        print(empty)
        return
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for heading in columns:
        grid.add_column(heading, overflow="fold")
    for document in documents:
        grid.add_row(*(_cell(document, path) for path in columns.values()))
    _out.print(grid)


def _cell(document: object, path: str) -> str:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, Mapping) else None
    if isinstance(document, (list, tuple)):
        return ", ".join(map(str, document)) or "-"
    return "-" if document is None else str(document)


class Follower(Protocol):
    """Shows how far a long piece of work is."""

    def __call__(self, text: str, percent: float | None) -> None:
        """Say where the work is; `percent` is None where nobody knows."""


@contextmanager
def follow(title: str) -> Iterator[Follower]:
    """Show progress on standard error: a bar on a terminal, lines elsewhere."""
    if not _err.is_terminal:
        yield _Lines(title)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
    with Progress(*columns, TimeElapsedColumn(), console=_err) as bars:
        task = bars.add_task(title, total=None, text="")

        def on_bar(text: str, percent: float | None) -> None:
            bars.update(task, text=text, total=100 if percent is not None else None, completed=percent or 0)

        yield on_bar


class _Lines:
    """A line when the first words change; one every `_LINE_S` at most while only figures do."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._last = ""
        self._at = 0.0

    def __call__(self, text: str, percent: float | None) -> None:  # noqa: ARG002 (the text says it too)
        begins = text.partition(",")[0] != self._last.partition(",")[0]
        if text != self._last and (begins or time.monotonic() - self._at >= _LINE_S):
            self._last, self._at = text, time.monotonic()
            sys.stderr.write(f"{self._title}: {text}\n")
