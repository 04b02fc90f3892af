import ast
import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from registry.cli import output
from registry.cli.client import ServerRefusedError
from registry.errors import RegistryError


def test_without_a_terminal_progress_is_a_line_per_stage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with output.follow("app:1") as tell:
        for layers in (0, 1):
            for percent in range(50):
                tell(f"pulling: {layers} of 2 layers, {50 * layers + percent} %, 8.1 MB/s, 9 s left", percent)
        tell("storing", None)
        tell("ready", 100)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "app:1: pulling: 0 of 2 layers, 0 %, 8.1 MB/s, 9 s left"
    assert lines[-2:] == ["app:1: storing", "app:1: ready"]
    assert 4 <= len(lines) <= 6


# What a customer, a node or a registry may have written: markup, styles, links, emoji codes, controls.
STRANGE = st.one_of(
    st.sampled_from(
        [
            "[/b]",
            "[bold red]x[/bold red]",
            "ghcr.io/acme/app[1]:v2",
            "[link=https://evil.example]click[/link]",
            ":warning:",
            "\\[b]",
            "\x1b[2J\x1b]0;title\x07",
            "a\rb",
            "line\nline",
            "\u202egnp.exe",
            "\x9b31m",
            "\ud800",
        ]
    ),
    st.text(min_size=1, max_size=60),
)
CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
Print = Callable[[str], None]


def _progress_bar(text: str) -> None:
    with output.follow(text) as show:
        show(text, 50.0)


def _refusal(text: str) -> None:
    with pytest.raises(typer.Exit):
        output.fail(ServerRefusedError(400, text, {text: [text]}))


def _failure(text: str) -> None:
    with pytest.raises(typer.Exit):
        output.fail(RegistryError(text))


PRINTERS: dict[str, Print] = {
    "say": output.say,
    "progress on one line": lambda text: output.say_progress(text, last=True),
    "show": lambda text: output.show({}, as_json=False, rows=[("name", text), (text, 1)]),
    "table": lambda text: output.table(
        [{"a": text, "b": {"c": [text, text]}}], {"A": "a", "B": "b.c"}, as_json=False, empty=""
    ),
    "empty table": lambda text: output.table([], {}, as_json=False, empty=text),
    "follow": _progress_bar,
    "refusal": _refusal,
    "failure": _failure,
}


@contextmanager
def captured() -> Iterator[io.StringIO]:
    """Capture all that is printed, on a wide console without styles."""
    sink = io.StringIO()
    console = Console(file=sink, width=100_000, color_system=None, force_terminal=False)
    with (
        redirect_stdout(sink),
        redirect_stderr(sink),
        patch.object(output, "_out", console),
        patch.object(output, "_err", console),
    ):
        yield sink


@pytest.mark.parametrize("name", PRINTERS)
@given(text=STRANGE)
def test_strangers_words_are_printed_as_text(name: str, text: str) -> None:
    with captured() as sink:
        PRINTERS[name](text)
    printed = sink.getvalue()
    shown = [output.printable(text)]
    if name == "failure":  # a message of this program may have several lines
        shown = [output.printable(line) for line in text.split("\n")]
    assert all(line.strip() in printed for line in shown)
    assert not CONTROLS.search(printed.removeprefix("\r"))


@given(text=STRANGE)
def test_the_progress_bar_of_a_terminal_shows_text(text: str) -> None:
    sink = io.StringIO()
    console = Console(file=sink, width=10_000, color_system=None, force_terminal=True, _environ={})
    with patch.object(output, "_err", console):
        _progress_bar(text)
    shown = output.printable(text).strip()
    assert shown in sink.getvalue() or not cell_len(shown)  # a lone combining character gets no column


@given(text=STRANGE)
def test_json_is_in_ascii_and_reads_back(text: str) -> None:
    for print_it in (output.print_json, output.print_json_line):
        with captured() as sink:
            print_it({"text": text})
        assert sink.getvalue().isascii()
        assert json.loads(sink.getvalue()) == {"text": text}


def test_only_the_output_module_prints() -> None:
    folder = Path(output.__file__).parent
    for path in folder.glob("*.py"):
        if path.name == "output.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            assert not (isinstance(called, ast.Name) and called.id == "print"), f"{path} calls print"
            imported = [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not any(str(name).startswith("rich") for name in imported), f"{path} uses rich"
            assert not (isinstance(node, ast.Attribute) and node.attr in {"echo", "secho", "stdout"}), path
