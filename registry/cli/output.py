"""Output of the command line: tables and progress bars, JSON for programs, errors with the next step.

Customers, nodes and registries wrote parts of what is printed. It is printed as text: `printable` escapes
control characters, which a terminal would execute, and no text is parsed as rich's markup. Only this module
prints.
"""

import json
import re
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
from rich.text import Text

from registry.cli.client import ServerRefusedError
from registry.errors import RegistryError

T = TypeVar("T")

_LINE_S = 2.0
_WIDE: Final = 10_000
_DIGEST: Final = re.compile(r"\b((?:sha256|sha512):[0-9a-f]{12})[0-9a-f]{52,}\b")
_out = Console()
_err = Console(stderr=True)

_NEXT: Final[Mapping[int, str]] = MappingProxyType(
    {
        401: "check the key: CRISPER_API_KEY, the configuration file, or --data-dir",
        403: "use another key: an operator key, or a key of this organization",
        404: "list what exists: crisper group list, crisper node list",
        429: "wait a moment, then retry",
        502: "check that the server runs, and the configuration of its proxy",
        503: "run `crisper doctor` on the server's machine to find the cause",
    }
)
"""Next step for the user, by HTTP status."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command. A RegistryError becomes a message on standard error and exit code 1."""
    try:
        return uvloop.run(work)
    except RegistryError as error:
        fail(error)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def fail(error: Exception) -> NoReturn:
    """Print an error and its next step to standard error, and exit with code 1."""
    lines = [str(error)] if isinstance(error, ServerRefusedError) else str(error).split("\n")
    text = "\n".join(map(printable, lines))
    sys.stderr.write(f"crisper: {text}\n")
    if isinstance(error, ServerRefusedError):
        for field, reasons in error.fields.items():
            sys.stderr.write(f"  {printable(field)}: {printable('; '.join(map(str, reasons)))}\n")
        if step := _NEXT.get(error.status):
            sys.stderr.write(f"  {step}\n")
    raise typer.Exit(1)


def misused(error: ValidationError) -> NoReturn:
    """Print the invalid settings, and exit with code 2."""
    lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)]
    raise typer.BadParameter("; ".join(lines)) from None


def show(document: object, *, as_json: bool, rows: Sequence[tuple[str, object]] = ()) -> None:
    """Print a document as JSON, or the given rows of it as text."""
    if as_json:
        print_json(document)
        return
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        say(f"{name:<{width}}  {'-' if value is None else value}")


def printable(text: str) -> str:
    """Return text with escapes for all characters that are not printable, such as control characters."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(text: str) -> None:
    """Print one line of text."""
    print(printable(text))


def say_progress(text: str, *, last: bool) -> None:
    """Print text over the previous one on the same line."""
    print(f"\r{printable(text)}", end="\n" if last else "", flush=True)


def print_json(document: object) -> None:
    """Print a JSON document. Its characters are ASCII."""
    print(json.dumps(document, indent=2))


def print_json_line(document: object) -> None:
    """Print a JSON document on one line."""
    print(json.dumps(document, separators=(",", ":")))


def confirm(question: str, *, yes: bool) -> None:
    """Ask a person before something is deleted. Programs, and `--yes`, are not asked."""
    if not yes and sys.stdin.isatty():
        typer.confirm(printable(question), abort=True)


def table(
    documents: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    *,
    as_json: bool,
    empty: str,
    wide: bool = False,
) -> None:
    """Print a list of documents as JSON, or as a table with one row per document.

    On a terminal, digests are shortened, and other text is folded to the terminal's width. Elsewhere, and
    with `wide`, each document is one line with all of its text.

    Args:
        columns: Maps each heading to a dotted path within a document.
        empty: Text to print if the list is empty.
    """
    if as_json:
        print_json(list(documents))
        return
    if not documents:
        say(empty)
        return
    grid = Table(box=None, pad_edge=False, header_style="bold")
    wide = wide or not _out.is_terminal
    for heading in columns:
        grid.add_column(Text(heading), overflow="fold", no_wrap=wide)
    for document in documents:
        cells = [printable(_cell(document, path)) for path in columns.values()]
        grid.add_row(*(Text(cell if wide else _DIGEST.sub(r"\1", cell)) for cell in cells))
    if wide:
        Console(file=_out.file, width=_WIDE).print(grid)
    else:
        _out.print(grid)


def _cell(document: object, path: str) -> str:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, Mapping) else None
    if isinstance(document, (list, tuple)):
        return ", ".join(map(str, document)) or "-"
    return "-" if document is None else str(document)


class Follower(Protocol):
    """Callback that shows progress."""

    def __call__(self, text: str, percent: float | None) -> None:
        """Show progress. `percent` is None if unknown."""


@contextmanager
def follow(title: str, *, lines: bool = True) -> Iterator[Follower]:
    """Show progress on standard error: a bar on a terminal, otherwise lines.

    Args:
        lines: Without them, nothing is shown if standard error is not a terminal.
    """
    if not _err.is_terminal:
        yield _Lines(title) if lines else _show_nothing
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Progress(*columns, TimeElapsedColumn(), console=_err) as bars:
        task = bars.add_task(printable(title), total=None, text="")

        def on_bar(text: str, percent: float | None) -> None:
            bars.update(
                task, text=printable(text), total=100 if percent is not None else None, completed=percent or 0
            )

        yield on_bar


def _show_nothing(text: str, percent: float | None) -> None:
    """Ignore progress."""


class _Lines:
    """Prints a line when the stage changes, and at most one per `_LINE_S` while only figures change."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._last = ""
        self._at = 0.0

    def __call__(self, text: str, percent: float | None) -> None:  # noqa: ARG002 (the text contains it)
        begins = text.partition(",")[0] != self._last.partition(",")[0]
        if text != self._last and (begins or time.monotonic() - self._at >= _LINE_S):
            self._last, self._at = text, time.monotonic()
            sys.stderr.write(f"{printable(self._title)}: {printable(text)}\n")
