"""What the command line prints: tables and bars for people, JSON for programs, errors with a next step."""

import json
import sys
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final, NoReturn, Protocol, TypeVar

import typer
import uvloop
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from registry.cli.client import ServerRefusedError
from registry.errors import RegistryError

T = TypeVar("T")

_LINE_S = 2.0
_out = Console()
_err = Console(stderr=True)

_NEXT: Final[Mapping[int, str]] = MappingProxyType(
    {
        401: "check the key: CRISPER_API_KEY, the configuration file, or --data-dir",
        403: "this needs another key: an operator's, or the organization's own",
        404: "see what there is: crisper group list, crisper node list",
        429: "wait a little, and try again",
        502: "see whether the server runs, and what its proxy is told",
        503: "on the server's machine, crisper doctor says what does not answer",
    }
)
"""What to do about a refusal, by its status."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command; turn what goes wrong on purpose into one line and exit code 1."""
    try:
        return uvloop.run(work)
    except RegistryError as error:
        fail(error)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def fail(error: Exception) -> NoReturn:
    """Say what went wrong and what to do about it on standard error, and exit with code 1."""
    sys.stderr.write(f"crisper: {error}\n")
    if isinstance(error, ServerRefusedError):
        for field, reasons in error.fields.items():
            sys.stderr.write(f"  {field}: {'; '.join(map(str, reasons))}\n")
        if step := _NEXT.get(error.status):
            sys.stderr.write(f"  {step}\n")
    raise typer.Exit(1)


def misused(error: ValidationError) -> NoReturn:
    """Say which settings do not validate, and exit with code 2."""
    lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)]
    raise typer.BadParameter("; ".join(lines)) from None


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
