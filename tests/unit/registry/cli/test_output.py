"""Tables, sizes and questions of the command line, on a terminal and elsewhere."""

import io
import sys

import pytest
import typer
from rich.console import Console

from registry.cli import output

DIGEST = f"sha256:{'4f3a' * 16}"
ROWS = [{"digest": DIGEST, "image": f"registry.example.com/{'long/' * 30}app:1"}]


def printed(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, wide: bool = False) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=60, color_system=None)
    monkeypatch.setattr(output, "_out", console)
    columns = {"DIGEST": "digest", "IMAGE": "image"}
    output.table(ROWS, columns, as_json=False, empty="", wide=wide)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_gets_short_digests_and_folded_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = printed(monkeypatch, terminal=True)
    assert DIGEST[:19] in shown
    assert DIGEST[:20] not in shown
    assert all(len(line) <= 60 for line in shown.splitlines())


@pytest.mark.parametrize(("terminal", "wide"), [(False, False), (False, True), (True, True)])
def test_programs_and_wide_tables_get_one_whole_line(
    monkeypatch: pytest.MonkeyPatch, *, terminal: bool, wide: bool
) -> None:
    _, line = printed(monkeypatch, terminal=terminal, wide=wide).splitlines()
    assert line.split() == [ROWS[0]["digest"], ROWS[0]["image"]]


class Person(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "goes_on"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_a_person_is_asked(monkeypatch: pytest.MonkeyPatch, answer: str, *, goes_on: bool) -> None:
    monkeypatch.setattr(sys, "stdin", Person(answer))
    if goes_on:
        output.confirm("Delete?", yes=False)
        return
    with pytest.raises(typer.Abort):
        output.confirm("Delete?", yes=False)


def test_programs_and_yes_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for stdin, yes in ((io.StringIO("n\n"), False), (Person("n\n"), True)):
        monkeypatch.setattr(sys, "stdin", stdin)
        output.confirm("Delete?", yes=yes)
        assert stdin.tell() == 0, "the answer was read"


def test_progress_is_lines_or_nothing_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "_err", Console(file=io.StringIO(), force_terminal=False))
    with output.follow("app") as report:
        report("pulling", 10)
    assert capsys.readouterr().err == "app: pulling\n"
    with output.follow("gc", lines=False) as report:
        report("12 objects checked", None)
    assert capsys.readouterr() == ("", "")
